package checkpoint

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func FuzzDecodeValue(f *testing.F) {
	f.Add("k", encodeValue("k", []byte("value")))
	f.Add("k", encodeValue("k", nil))
	f.Add("other", encodeValue("k", []byte("value")))
	f.Add("", []byte{1, 0, 0, 0})
	f.Add("k", []byte{2, 0, 0, 0, 0, 'v'})
	f.Fuzz(func(t *testing.T, key string, encoded []byte) {
		value, err := decodeValue(key, encoded)
		if err == nil && !bytes.Equal(encodeValue(key, value), encoded) {
			t.Fatalf("%x of key %q decodes to %x, which encodes otherwise", encoded, key, value)
		}
	})
}

func FuzzParse(f *testing.F) {
	dir := f.TempDir()
	for name, c := range map[string]contents{
		"empty": {},
		"few":   {pairs: []pair{{"a", []byte("1")}, {"b", nil}}, lost: true},
	} {
		path := filepath.Join(dir, name)
		if _, err := writeFile(path, c); err != nil {
			f.Fatal(err)
		}
		image, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(image)
		f.Add(image[:len(image)/2])
	}
	f.Fuzz(func(t *testing.T, image []byte) {
		c, err := parse(image)
		if err != nil && len(c.pairs) > 0 {
			t.Fatal("positions beside an error")
		}
	})
}
