package file

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
)

func exampleState() *state {
	return &state{
		identity: identity{inode: inode{math.MaxUint64, 12345678}, kind: generationBirth, generation: math.MaxUint64},
		path:     "/var/log/a b/ä.log", real: "/data/ä.log", position: 1 << 50, size: math.MaxInt64,
		headLength: headSize, headHash: math.MaxUint64, guardLength: guardSize, guardHash: 1,
		modified: 1_700_000_000_123_456_789,
	}
}

// TestStatesOfAllVersionsAreRead holds the agent to what others have written: the
// files are never changed, each version adds its own.
func TestStatesOfAllVersionsAreRead(t *testing.T) {
	first := exampleState()
	first.modified = 0
	for version, want := range map[int]*state{1: first, 2: exampleState()} {
		golden, err := os.ReadFile(fmt.Sprintf("testdata/state-v%d.hex", version))
		if err != nil {
			t.Fatal(err)
		}
		encoded, err := hex.DecodeString(strings.Join(strings.Fields(string(golden)), ""))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeState(encoded); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("version %d is read as %+v, %v", version, got, err)
		}
	}
}

func TestFieldsThatAreNotKnown(t *testing.T) {
	want := exampleState()
	with := func(fields ...byte) (*state, error) { return decodeState(append(want.encode(), fields...)) }
	if got, err := with(127, 3, 'n', 'e', 'w'); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("a field that may be passed over gives %+v, %v", got, err)
	}
	var newer *newerStateError
	if _, err := with(0xff, 0x7f, 3, 'n', 'e', 'w'); !errors.As(err, &newer) || !strings.Contains(err.Error(), "start the agent version that wrote it") {
		t.Errorf("a field that must be understood gives %v", err)
	}
	for name, fields := range map[string][]byte{
		"a tag twice":          {127, 0, 127, 0},
		"descending tags":      {127, 0, 126, 0},
		"the tag 0":            {0, 0},
		"a length beyond all":  {127, 200, 1},
		"a tag without length": {127},
	} {
		if _, err := with(fields...); err == nil || errors.As(err, &newer) {
			t.Errorf("%s gives %v", name, err)
		}
	}
	for name, value := range map[string][]byte{"no bytes": {}, "a byte too many": {2, 0}, "nothing to say": {0}} {
		if _, well := new(state).setField(field{tagModified, value}); well {
			t.Errorf("a modification time of %s is taken", name)
		}
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
	modified := len((&state{modified: exampleState().modified}).encode()) - len((&state{}).encode())
	for n := range good {
		if n == len(good)-modified {
			continue // without its field it is a whole one that knows less
		}
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
		"head beyond the size":  {position: 10, headLength: 11},
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
	f.Add(append(exampleState().encode(), 127, 1, 'x'))
	f.Add(append([]byte{1}, (&state{}).encode()[1:]...))
	f.Fuzz(func(t *testing.T, encoded []byte) {
		s, err := decodeState(encoded)
		if err != nil {
			return
		}
		if s.headLength > headSize || s.guardLength > guardSize || s.position < 0 || int64(s.headLength) > max(s.position, s.size) || int64(s.guardLength) > s.position {
			t.Fatalf("%x decodes to %+v", encoded, s)
		}
		again, err := decodeState(s.encode())
		if err != nil || !reflect.DeepEqual(again, s) || !bytes.Equal(again.encode(), s.encode()) {
			t.Fatalf("%+v does not survive encoding: %+v, %v", s, again, err)
		}
	})
}
