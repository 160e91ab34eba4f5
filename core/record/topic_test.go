package record

import (
	"strings"
	"testing"
)

func TestTopicsAsKafkaTakesThem(t *testing.T) {
	for name, want := range map[string]bool{
		"": false, ".": false, "..": false, "...": true, "access.log_2-a": true, "a/b": false, "ü": false, "a b": false, "a\x00": false,
		strings.Repeat("x", 249): true, strings.Repeat("x", 250): false,
	} {
		if got := ValidTopic(name); got != want {
			t.Errorf("%.20q: %v", name, got)
		}
	}
}
