package file

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
)

func exampleState() *state {
	return &state{
		identity: identity{inode: inode{math.MaxUint64, 12345678}, kind: generationBirth, generation: math.MaxUint64},
		path:     "/var/log/a b/ä.log", real: "/data/ä.log", position: 1 << 50, size: math.MaxInt64,
		headLength: headSize, headHash: math.MaxUint64, guardLength: guardSize, guardHash: 1,
	}
}

func TestStateSurvivesEncoding(t *testing.T) {
	for _, s := range []*state{exampleState(), {}, {path: "/x", position: 10, headLength: 10, guardLength: 10}} {
		got, err := decodeState(s.encode())
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("%+v became %+v, %v", s, got, err)
		}
	}
}

func TestDamagedStatesAreRefused(t *testing.T) {
	good := exampleState().encode()
	for n := range good {
		if _, err := decodeState(good[:n]); err == nil {
			t.Errorf("cut to %d bytes it is taken", n)
		}
	}
	if _, err := decodeState(append(good[:len(good):len(good)], 0)); err == nil {
		t.Error("with a byte too many it is taken")
	}
	var newer *newerStateError
	if _, err := decodeState(append([]byte{stateVersion + 1}, good[1:]...)); !errors.As(err, &newer) || !strings.Contains(err.Error(), "version") {
		t.Errorf("a newer version gives %v", err)
	}
	for name, s := range map[string]*state{
		"guard beyond position": {position: 10, guardLength: 11},
		"head beyond position":  {position: 10, headLength: 11},
		"guard too long":        {position: 1000, guardLength: guardSize + 1},
		"head too long":         {position: 10000, headLength: headSize + 1},
		"negative position":     {position: -1},
		"unknown generation":    {identity: identity{kind: generationBirth + 1}},
		"path too long":         {path: strings.Repeat("x", maxPath+1)},
	} {
		if _, err := decodeState(s.encode()); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func FuzzDecodeState(f *testing.F) {
	f.Add(exampleState().encode())
	f.Add((&state{}).encode())
	f.Add([]byte{})
	f.Add([]byte{9})
	f.Fuzz(func(t *testing.T, encoded []byte) {
		s, err := decodeState(encoded)
		if err != nil {
			return
		}
		if s.headLength > headSize || s.guardLength > guardSize || s.position < 0 || int64(s.headLength) > s.position || int64(s.guardLength) > s.position {
			t.Fatalf("%x decodes to %+v", encoded, s)
		}
		again, err := decodeState(s.encode())
		if err != nil || !reflect.DeepEqual(again, s) || !bytes.Equal(again.encode(), s.encode()) {
			t.Fatalf("%+v does not survive encoding: %+v, %v", s, again, err)
		}
	})
}
