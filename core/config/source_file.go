package config

import (
	"errors"
	"math"
	"path/filepath"
	"regexp"
	"regexp/syntax"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/barnabas-agent/barnabas/core/charset"
)

// FileSource tails files. All globs are absolute, in the syntax of doublestar;
// special characters of the configuration's own folder are escaped.
type FileSource struct {
	Include             []string
	Exclude             []string
	StartAt             StartAt
	Format              string           // lines, cri, docker
	Encoding            *charset.Charset // nil: UTF-8, whose bytes pass unchanged
	MaxLine             int64            // bytes, without the line's end
	OnLongLine          string           // split, truncate, quarantine
	Multiline           *Multiline       // nil: each line is a record
	Compression         string           // none, auto
	PollInterval        time.Duration
	IgnoreOlder         time.Duration // 0: no file is too old
	CloseIdle           time.Duration // 0: an idle file stays open
	MaxOpenFiles        int           // 0: no bound
	FollowSymlinks      bool
	SymlinkRoots        []string // absolute folders
	DeleteAfterDelivery bool
}

// Multiline joins lines to records. One of the patterns is set.
type Multiline struct {
	StartPattern    *regexp.Regexp // of a line that begins a record
	ContinuePattern *regexp.Regexp // of a line that belongs to the record before it
	Timeout         time.Duration
	MaxLines        int
	Places          Places `json:"-"` // where it is written
}

// StartAt says where reading begins in files that exist at the very first
// start.
type StartAt string

// The values of start_at.
const (
	StartAtBeginning StartAt = "beginning"
	StartAtEnd       StartAt = "end"
)

func defaultFileSource() *FileSource {
	return &FileSource{
		StartAt:        StartAtBeginning,
		Format:         "lines",
		MaxLine:        512 << 10,
		OnLongLine:     "split",
		Compression:    "auto",
		PollInterval:   250 * time.Millisecond,
		CloseIdle:      5 * time.Minute,
		MaxOpenFiles:   1024,
		FollowSymlinks: true,
	}
}

func (d *decoder) fileSource(name string, b block) Source {
	f := defaultFileSource()
	places := d.block(b, schema{
		name: `source "file"`,
		key:  "source.file",
		attributes: map[string]attribute{
			"include":               into(&f.Include, some(listOf(includeGlob))),
			"exclude":               into(&f.Exclude, listOf(excludeGlob)),
			"start_at":              into(&f.StartAt, oneOf(StartAtBeginning, StartAtEnd)),
			"format":                into(&f.Format, oneOf("lines", "cri", "docker")),
			"encoding":              into(&f.Encoding, encoding),
			"max_line":              into(&f.MaxLine, size(minLine, maxRequestSize)),
			"on_long_line":          into(&f.OnLongLine, oneOf("split", "truncate", "quarantine")),
			"compression":           into(&f.Compression, oneOf("none", "auto")),
			"poll_interval":         into(&f.PollInterval, duration(time.Millisecond, time.Hour)),
			"ignore_older":          into(&f.IgnoreOlder, duration(0, math.MaxInt64)),
			"close_idle":            into(&f.CloseIdle, duration(0, math.MaxInt64)),
			"max_open_files":        into(&f.MaxOpenFiles, integer(1, math.MaxInt32)),
			"follow_symlinks":       into(&f.FollowSymlinks, boolean),
			"symlink_roots":         into(&f.SymlinkRoots, listOf(path)),
			"delete_after_delivery": into(&f.DeleteAfterDelivery, boolean),
		},
		blocks: map[string]nested{
			"multiline": {once: true, read: func(b block) { f.Multiline = d.multiline(b) }},
		},
	})
	if !places.Has("include") {
		d.missingAt(places.Block(), `write include = ["/var/log/app/*.log"]`, `source "file" has no include`)
	}
	if f.Format != "lines" && f.Encoding != nil {
		d.errorAt(places.At("encoding"), "leave encoding out", "what container runtimes write is UTF-8: format = %s takes no encoding", quote(f.Format))
	}
	return Source{Kind: SourceFile, Name: name, File: f, Places: places}
}

// maxJoined is the most lines that a record may be joined of.
const maxJoined = 1_000_000

func (d *decoder) multiline(b block) *Multiline {
	m := &Multiline{Timeout: 5 * time.Second, MaxLines: 1000}
	m.Places = d.block(b, schema{
		name: "multiline",
		key:  "source.file.multiline",
		attributes: map[string]attribute{
			"start_pattern":    into(&m.StartPattern, pattern),
			"continue_pattern": into(&m.ContinuePattern, pattern),
			"timeout":          into(&m.Timeout, duration(time.Millisecond, time.Hour)),
			"max_lines":        into(&m.MaxLines, integer(1, maxJoined)),
		},
	})
	start, follow := m.Places.Has("start_pattern"), m.Places.Has("continue_pattern")
	switch {
	case start && follow:
		d.errorAt(m.Places.At("continue_pattern"), "leave one of them out: what begins a record and what continues one are each other's opposite",
			"multiline takes start_pattern or continue_pattern, not both")
	case !start && !follow:
		d.missingAt(m.Places.Block(), `write start_pattern = "^\\d{4}-" or continue_pattern = "^\\s"`, "multiline has no pattern")
	}
	return m
}

// pattern takes a regular expression in RE2's syntax.
func pattern(v value) (*regexp.Regexp, bool) {
	s, ok := nonEmpty(v)
	if !ok {
		return nil, false
	}
	compiled, err := regexp.Compile(s)
	if err != nil {
		problem := err.Error()
		var bad *syntax.Error
		if errors.As(err, &bad) {
			problem = bad.Code.String()
			if bad.Expr != s {
				problem += ": " + quote(bad.Expr)
			}
		}
		v.fail("patterns are RE2's, https://github.com/google/re2/wiki/Syntax; in a string, a backslash is written twice",
			"must be a regular expression: %s", problem)
		return nil, false
	}
	return compiled, true
}

// encoding takes the name of a character encoding.
func encoding(v value) (*charset.Charset, bool) {
	name, ok := nonEmpty(v)
	if !ok {
		return nil, false
	}
	found, err := charset.Lookup(name)
	var refused *charset.Error
	if errors.As(err, &refused) {
		v.fail(refused.Hint, "can't be used: %s", refused.Reason)
		return nil, false
	}
	return found, err == nil
}

// includeGlob takes a glob of files; a relative one starts at the
// configuration's folder.
func includeGlob(v value) (string, bool) {
	s, ok := glob(v)
	if ok && !filepath.IsAbs(s) {
		s = filepath.Join(escapeGlob(v.decoder.folder), s)
	}
	return s, ok
}

// excludeGlob takes a glob of files. One without a slash is about a file's name
// in any folder, and one that begins with ** is about any folder; every other
// relative one starts at the configuration's folder.
func excludeGlob(v value) (string, bool) {
	s, ok := glob(v)
	switch {
	case !ok || filepath.IsAbs(s):
		return s, ok
	case !strings.Contains(s, "/"):
		return "/**/" + s, true
	case strings.HasPrefix(s, "**/"):
		return "/" + s, true
	default:
		return filepath.Join(escapeGlob(v.decoder.folder), s), true
	}
}

func glob(v value) (string, bool) {
	s, ok := nonEmpty(v)
	if !ok {
		return "", false
	}
	if !doublestar.ValidatePattern(s) {
		v.fail(`in a glob, * is any part of a name, ** any folders, […] and {a,b} are choices`, "must be a glob, not %s", quote(s))
		return "", false
	}
	if strings.HasSuffix(s, "/") {
		v.fail("write "+quote(s+"*"), "must name files, not a folder")
		return "", false
	}
	return filepath.Clean(s), true
}

// escapeGlob writes a path as the glob that matches it alone.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`, "{", `\{`, "}", `\}`).Replace(path)
}
