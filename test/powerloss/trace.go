package powerloss

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// call is one system call that has returned.
type call struct {
	name      string
	arguments []string
	result    int64 // -1: it failed
	text      string
}

// traced are the calls that can change a folder, and those that move descriptors.
func traced() []string {
	return []string{
		"openat", "open", "creat", "close", "dup", "dup2", "dup3",
		"write", "pwrite64", "writev", "pwritev", "pwritev2", "sendfile", "copy_file_range", "splice",
		"ftruncate", "truncate", "fallocate", "mmap",
		"fsync", "fdatasync", "sync", "syncfs", "sync_file_range",
		"rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat",
		"unlink", "unlinkat", "rmdir", "mkdir", "mkdirat",
	}
}

const (
	unfinished = " <unfinished ...>"
	resumed    = " resumed>"
)

// parseTrace reads the output of strace -f -xx. A call that others interrupt is
// put where it returns.
func parseTrace(text string) ([]call, error) {
	var calls []call
	begun := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		process, rest, ok := strings.Cut(line, " ")
		rest = strings.TrimLeft(rest, " ")
		if !ok || strings.HasPrefix(rest, "+++") || strings.HasPrefix(rest, "---") {
			continue
		}
		if head, cut := strings.CutSuffix(rest, unfinished); cut {
			begun[process] = head
			continue
		}
		if strings.HasPrefix(rest, "<... ") {
			_, tail, found := strings.Cut(rest, resumed)
			if !found {
				return nil, fmt.Errorf("not a line of strace: %.120q", line)
			}
			rest = begun[process] + tail
			delete(begun, process)
		}
		c, err := parseCall(rest)
		if err != nil {
			return nil, fmt.Errorf("%w: %.120q", err, line)
		}
		calls = append(calls, c)
	}
	return calls, nil
}

var errForm = errors.New("not a line of strace")

// parseCall reads name(argument, …) = result. With -xx, strings hold no
// quotes, commas or brackets.
func parseCall(line string) (call, error) {
	name, rest, ok := strings.Cut(line, "(")
	end := strings.IndexByte(rest, ')')
	if !ok || end < 0 {
		return call{}, errForm
	}
	_, result, ok := strings.Cut(rest[end:], "= ")
	if !ok {
		return call{}, errForm
	}
	c := call{name: name, text: line}
	if len(c.text) > 120 {
		c.text = c.text[:120] + "…"
	}
	for argument := range strings.SplitSeq(rest[:end], ", ") {
		c.arguments = append(c.arguments, argument)
	}
	number, _, _ := strings.Cut(result, " ")
	if number == "?" { // the process ended inside the call
		c.result = -1
		return c, nil
	}
	n, err := strconv.ParseInt(number, 0, 64)
	if err != nil {
		// An address above the range of int64 is of no interest.
		return c, nil
	}
	c.result = n
	return c, nil
}

// unquote reads a string as -xx prints it.
func unquote(text string) ([]byte, error) {
	inner, ok := strings.CutPrefix(text, `"`)
	inner, ok2 := strings.CutSuffix(inner, `"`)
	if !ok || !ok2 || len(inner)%4 != 0 {
		return nil, fmt.Errorf("not a whole string of strace: %.60q", text)
	}
	content := make([]byte, len(inner)/4)
	for i := range content {
		high, low := digit(inner[4*i+2]), digit(inner[4*i+3])
		if inner[4*i:4*i+2] != `\x` || high > 15 || low > 15 {
			return nil, fmt.Errorf("not a string of strace: %.60q", text)
		}
		content[i] = high<<4 | low
	}
	return content, nil
}

func digit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}
