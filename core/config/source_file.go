package config

import (
	"math"
	"path/filepath"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"
)

// FileSource tails files. All globs are absolute, in the syntax of doublestar;
// special characters of the configuration's own folder are escaped.
type FileSource struct {
	Include             []string
	Exclude             []string
	StartAt             StartAt
	Format              string // lines, cri, docker
	Encoding            string // utf-8: bytes pass unchanged
	MaxLine             int64  // bytes, without the line's end
	OnLongLine          string // split, truncate, quarantine
	Compression         string // none, auto
	PollInterval        time.Duration
	IgnoreOlder         time.Duration // 0: no file is too old
	CloseIdle           time.Duration // 0: an idle file stays open
	MaxOpenFiles        int           // 0: no bound
	FollowSymlinks      bool
	SymlinkRoots        []string // absolute folders
	DeleteAfterDelivery bool
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
		Encoding:       "utf-8",
		MaxLine:        512 << 10,
		OnLongLine:     "split",
		Compression:    "none",
		PollInterval:   250 * time.Millisecond,
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
			"encoding":              into(&f.Encoding, nonEmpty),
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
			"multiline": {once: true, read: func(block) {}},
		},
	})
	if !places.Has("include") {
		d.missingAt(places.Block(), `write include = ["/var/log/app/*.log"]`, `source "file" has no include`)
	}
	return Source{Kind: SourceFile, Name: name, File: f, Places: places}
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
