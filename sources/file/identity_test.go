package file

import (
	"strings"
	"testing"
)

func TestDecide(t *testing.T) {
	saved := state{
		identity: identity{inode: inode{8, 100}, kind: generationInode, generation: 7},
		position: 5000, size: 6000, headLength: 1024, headHash: 1, guardLength: 64, guardHash: 2,
	}
	same := evidence{identity: saved.identity, size: 6000, lastLine: 5900, head: 1, guard: 2}
	with := func(change func(*evidence)) evidence {
		e := same
		change(&e)
		return e
	}
	for name, c := range map[string]struct {
		saved    *state
		found    evidence
		fromEnd  bool
		position int64
		resumed  bool
		reason   string
	}{
		"same file":                     {&saved, same, false, 5000, true, "is the file"},
		"same file, start at end":       {&saved, same, true, 5000, true, "is the file"},
		"grown":                         {&saved, with(func(e *evidence) { e.size = 1 << 40 }), false, 5000, true, "is the file"},
		"exactly delivered":             {&saved, with(func(e *evidence) { e.size = 5000 }), false, 5000, true, "is the file"},
		"new":                           {nil, same, false, 0, false, "new"},
		"new, start at end":             {nil, same, true, 5900, false, "end"},
		"other device":                  {&saved, with(func(e *evidence) { e.identity.device = 9 }), false, 0, false, "another inode"},
		"inode reused":                  {&saved, with(func(e *evidence) { e.identity.generation = 8 }), false, 0, false, "reused"},
		"inode reused, start at end":    {&saved, with(func(e *evidence) { e.identity.generation = 8 }), true, 0, false, "reused"},
		"generation of another kind":    {&saved, with(func(e *evidence) { e.identity.kind = generationBirth }), false, 0, false, "reused"},
		"one byte shorter":              {&saved, with(func(e *evidence) { e.size = 4999 }), false, 0, false, "shorter"},
		"emptied":                       {&saved, with(func(e *evidence) { e.size = 0 }), false, 0, false, "shorter"},
		"other head":                    {&saved, with(func(e *evidence) { e.head = 3 }), false, 0, false, "first bytes"},
		"same head, other guard":        {&saved, with(func(e *evidence) { e.guard = 3 }), false, 0, false, "before the saved position"},
		"reused with the same contents": {&saved, with(func(e *evidence) { e.identity.generation++ }), false, 0, false, "reused"},
	} {
		got := decide(c.saved, c.found, c.fromEnd)
		if got.position != c.position || got.resumed != c.resumed || !strings.Contains(got.reason, c.reason) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
