package file

import (
	"strings"
	"testing"
)

func TestDecide(t *testing.T) {
	saved := state{
		identity: identity{inode: inode{8, 100}, kind: generationInode, generation: 7},
		position: 5000, size: 6000, headLength: 1024, headHash: 1, guardLength: 64, guardHash: 2, modified: 50,
	}
	same := evidence{identity: saved.identity, size: 6000, modified: 50, lastLine: 5900, head: 1, guard: 2}
	with := func(change func(*evidence)) evidence {
		e := same
		change(&e)
		return e
	}
	knows := func(change func(*state)) *state {
		s := saved
		change(&s)
		return &s
	}
	anonymous := knows(func(s *state) { s.identity.kind, s.identity.generation = generationNone, 0 })
	short := knows(func(s *state) {
		s.position, s.size, s.headLength, s.guardLength = 10, 10, 10, 10
	})
	for name, c := range map[string]struct {
		saved    *state
		found    evidence
		fromEnd  bool
		position int64
		resumed  bool
		reason   string
	}{
		"restart: nothing happened":                               {&saved, same, false, 5000, true, "is the file"},
		"restart with start_at end: known all the same":           {&saved, same, true, 5000, true, "is the file"},
		"grown while stopped":                                     {&saved, with(func(e *evidence) { e.size, e.modified = 1<<40, 60 }), false, 5000, true, "is the file"},
		"F02, F38: renamed or exchanged, the inode is the same":   {&saved, same, false, 5000, true, "is the file"},
		"F11: shorter than the head, whole known":                 {short, with(func(e *evidence) { e.size = 10 }), false, 10, true, "is the file"},
		"F11: empty when it was saved":                            {&state{identity: saved.identity}, with(func(e *evidence) { e.size, e.head, e.guard = 0, 0, 0 }), false, 0, true, "is the file"},
		"F12: grew through the head while stopped":                {short, with(func(e *evidence) { e.size = 2048 }), false, 10, true, "is the file"},
		"F37: touched, nothing else":                              {&saved, with(func(e *evidence) { e.modified = 60 }), false, 5000, true, "touched"},
		"version 1: the modification time is not known":           {knows(func(s *state) { s.modified = 0 }), with(func(e *evidence) { e.modified = 60 }), false, 5000, true, "is the file"},
		"modification time set back":                              {&saved, with(func(e *evidence) { e.modified = 40 }), false, 5000, true, "touched"},
		"new":                                                     {nil, same, false, 0, false, "new"},
		"new at the first start, start_at end":                    {nil, same, true, 5900, false, "end"},
		"F46: another device":                                     {&saved, with(func(e *evidence) { e.identity.device = 9 }), false, 0, false, "another inode"},
		"F47: sed -i made another inode":                          {&saved, with(func(e *evidence) { e.identity.number++ }), false, 0, false, "another inode"},
		"F08: inode reused":                                       {&saved, with(func(e *evidence) { e.identity.generation = 8 }), false, 0, false, "reused"},
		"F08: inode reused, start_at end":                         {&saved, with(func(e *evidence) { e.identity.generation = 8 }), true, 0, false, "reused"},
		"F09: inode reused, head and guard are the same":          {&saved, with(func(e *evidence) { e.identity.generation++ }), false, 0, false, "reused"},
		"generation is now told by the birth time":                {&saved, with(func(e *evidence) { e.identity.kind = generationBirth }), false, 0, false, "reused"},
		"no generation, all the same":                             {anonymous, with(func(e *evidence) { e.identity = anonymous.identity }), false, 5000, true, "is the file"},
		"no generation, inode reused: other head":                 {anonymous, with(func(e *evidence) { e.identity, e.head = anonymous.identity, 3 }), false, 0, false, "first bytes"},
		"no generation, inode reused: same head (F10), longer":    {anonymous, with(func(e *evidence) { e.identity, e.guard, e.size = anonymous.identity, 3, 9000 }), false, 0, false, "before the saved position"},
		"no generation when saved, one is known now":              {anonymous, same, false, 0, false, "reused"},
		"C16: shorter than the position":                          {&saved, with(func(e *evidence) { e.size = 4999 }), false, 0, false, "shorter"},
		"cut, then written to the position: as before up to it":   {&saved, with(func(e *evidence) { e.size = 5000 }), false, 0, false, "shorter"},
		"cut by a byte behind the position":                       {&saved, with(func(e *evidence) { e.size = 5999 }), false, 0, false, "shorter"},
		"F04: emptied":                                            {&saved, with(func(e *evidence) { e.size = 0 }), false, 0, false, "shorter"},
		"F06: rewritten beyond the position: other head":          {&saved, with(func(e *evidence) { e.size, e.head = 7000, 3 }), false, 0, false, "first bytes"},
		"F06: rewritten beyond the position: same head":           {&saved, with(func(e *evidence) { e.size, e.guard = 7000, 3 }), false, 0, false, "before the saved position"},
		"F07: rewritten to the same size, other head":             {&saved, with(func(e *evidence) { e.modified, e.head = 60, 3 }), false, 0, false, "first bytes"},
		"F07: rewritten to the same size, other guard":            {&saved, with(func(e *evidence) { e.modified, e.guard = 60, 3 }), false, 0, false, "before the saved position"},
		"F07: rewritten to the same size, times restored":         {&saved, with(func(e *evidence) { e.guard = 3 }), false, 0, false, "before the saved position"},
		"F07, the limit: same size, same head, same guard":        {&saved, with(func(e *evidence) { e.modified = 60 }), false, 5000, true, "touched"},
		"F07: the short file's few bytes are others":              {short, with(func(e *evidence) { e.size, e.head, e.guard = 10, 3, 3 }), false, 0, false, "first bytes"},
		"nothing delivered, the head says that it was rewritten":  {knows(func(s *state) { s.position, s.guardLength = 0, 0 }), with(func(e *evidence) { e.head = 3 }), false, 0, false, "first bytes"},
		"nothing delivered, the file is the same: position is 0":  {knows(func(s *state) { s.position, s.guardLength = 0, 0 }), same, false, 0, true, "is the file"},
		"inode reused on another device with the same generation": {&saved, with(func(e *evidence) { e.identity.device++ }), false, 0, false, "another inode"},
	} {
		got := decide(c.saved, c.found, c.fromEnd)
		if got.position != c.position || got.resumed != c.resumed || !strings.Contains(got.reason, c.reason) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestDecideCopy(t *testing.T) {
	gone := state{
		identity: identity{inode: inode{8, 100}, kind: generationInode, generation: 7},
		position: 5000, size: 6000, headLength: 1024, headHash: 1, guardLength: 64, guardHash: 2, modified: 1e12,
	}
	plain := evidence{
		identity: identity{inode: inode{8, 101}, kind: generationInode, generation: 9},
		size:     6000, changed: 1e12, head: 1, guard: 2, related: true,
	}
	with := func(change func(*evidence)) evidence {
		e := plain
		change(&e)
		return e
	}
	knows := func(change func(*state)) *state {
		s := gone
		change(&s)
		return &s
	}
	short := knows(func(s *state) { s.position, s.size, s.headLength, s.guardLength = 100, 150, 150, 64 })
	for name, c := range map[string]struct {
		gone     *state
		found    evidence
		position int64 // -1: no copy
		reason   string
	}{
		"F04: copytruncate": {&gone, plain, 5000, "is a copy"},
		"F04: copytruncate, the copy has lines never seen":  {&gone, with(func(e *evidence) { e.size = 9000 }), 5000, "is a copy"},
		"F05: lines between copy and cut":                   {&gone, with(func(e *evidence) { e.size, e.changed = 5500, 1e12-1e9 }), 5000, "is a copy"},
		"any name, outside the glob":                        {&gone, with(func(e *evidence) { e.related = false }), 5000, "is a copy"},
		"inside the glob":                                   {&gone, with(func(e *evidence) { e.matches = true }), 5000, "is a copy"},
		"inside the glob, any name: read whole":             {&gone, with(func(e *evidence) { e.matches, e.related = true, false }), 0, "in doubt"},
		"inside the glob, shorter than was known":           {&gone, with(func(e *evidence) { e.matches, e.size = true, 5999 }), 0, "in doubt"},
		"inside the glob, another program writes to it":     {&gone, with(func(e *evidence) { e.matches, e.busy = true, true }), 0, "in doubt"},
		"nothing but repeated lines: never skip":            {&gone, with(func(e *evidence) { e.repeats = true }), 0, "repeat"},
		"nothing read before the cut":                       {knows(func(s *state) { s.position, s.guardLength = 0, 0 }), plain, 0, "is a copy"},
		"short, all of it known":                            {short, with(func(e *evidence) { e.size = 150 }), 100, "is a copy"},
		"short, and any name":                               {short, with(func(e *evidence) { e.size, e.related = 150, false }), -1, "short"},
		"other head":                                        {&gone, with(func(e *evidence) { e.head = 3 }), -1, "first bytes"},
		"F10: same head, other content":                     {&gone, with(func(e *evidence) { e.guard = 3 }), -1, "before the position"},
		"ends before the position":                          {&gone, with(func(e *evidence) { e.size = 4999 }), -1, "shorter"},
		"an older backup":                                   {&gone, with(func(e *evidence) { e.changed = 1e12 - 2*int64(copySlack) }), -1, "older"},
		"the file itself":                                   {&gone, with(func(e *evidence) { e.identity = gone.identity }), -1, "itself"},
		"another filesystem":                                {&gone, with(func(e *evidence) { e.identity.device++ }), -1, "filesystem"},
		"version 1: head not known as far as the position":  {knows(func(s *state) { s.headLength = 1000 }), plain, -1, "too little"},
		"empty when it was saved: nothing proves anything":  {knows(func(s *state) { s.position, s.guardLength, s.headLength = 0, 0, 0 }), plain, -1, "too little"},
		"short, repeated lines: never skip":                 {short, with(func(e *evidence) { e.size, e.repeats = 150, true }), 0, "repeat"},
		"repeated lines inside the glob are read as new":    {&gone, with(func(e *evidence) { e.repeats, e.matches = true, true }), 0, "repeat"},
		"copy of a content of which nothing is left unread": {knows(func(s *state) { s.size = 5000 }), with(func(e *evidence) { e.size = 5000 }), 5000, "is a copy"},
	} {
		got, isCopy := decideCopy(c.gone, c.found)
		if position := got.position; isCopy != (c.position >= 0) || isCopy && position != c.position || !strings.Contains(got.reason, c.reason) {
			t.Errorf("%s: %+v, %v", name, got, isCopy)
		}
	}
}

func TestRelatedNames(t *testing.T) {
	for original, names := range map[string]string{
		"a.log":      "a.log.1 a.log-20241127 a-20241127.log a.1.log a_old.log a.log.2.gz a.log.bak",
		"syslog":     "syslog.1 syslog-2024",
		".hidden":    ".hidden.1",
		"app.x.json": "app.x.json.1 app.x-1.json",
	} {
		for _, name := range strings.Fields(names) {
			if !relatedTo(original, name) {
				t.Errorf("%s is not related to %s", name, original)
			}
		}
	}
	for original, names := range map[string]string{
		"a.log":  "a.log b.log ab.log a1.log aa.log.1 a. a",
		"syslog": "syslog syslogs sys.log",
	} {
		for _, name := range strings.Fields(names) {
			if relatedTo(original, name) {
				t.Errorf("%s is related to %s", name, original)
			}
		}
	}
}
