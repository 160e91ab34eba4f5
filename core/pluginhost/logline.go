package pluginhost

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a structured line.
const (
	maxLogFields = 16
	maxLogField  = 1 << 10 // bytes
)

// logLine is one line that a plugin printed, escaped.
type logLine struct {
	level   slog.Level
	message string
	fields  []slog.Attr
}

// attrs returns the plugin's fields as one group, where they can't pass for the agent's own.
func (l *logLine) attrs() []slog.Attr {
	if len(l.fields) == 0 {
		return nil
	}
	return []slog.Attr{slog.GroupAttrs("fields", l.fields...)}
}

// parseLogLine reads hclog's JSON, and anything else as text. go-plugin's own
// parser ends the process when a member that it expects to be a string is not.
func parseLogLine(line []byte) logLine {
	var members map[string]any
	if bytes.HasPrefix(line, []byte("{")) && json.Unmarshal(line, &members) == nil {
		if message, ok := members["@message"].(string); ok {
			return structuredLine(message, members)
		}
	}
	text := string(line)
	return logLine{level: textLevel(text), message: sanitize(text, maxLogLine)}
}

// structuredLine takes the message, the level and the first fields by name.
func structuredLine(message string, members map[string]any) logLine {
	name, _ := members["@level"].(string)
	l := logLine{level: namedLevel(name), message: sanitize(message, maxLogLine)}
	for _, key := range slices.Sorted(maps.Keys(members)) {
		if strings.HasPrefix(key, "@") {
			continue
		}
		if len(l.fields) == maxLogFields {
			break
		}
		value, ok := members[key].(string)
		if !ok {
			value = fmt.Sprint(members[key])
		}
		l.fields = append(l.fields, slog.String(sanitize(key, 64), sanitize(value, maxLogField)))
	}
	return l
}

// namedLevel reads hclog's name of a level.
func namedLevel(name string) slog.Level {
	switch name {
	case "trace", "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	default:
		return slog.LevelInfo
	}
}

// textLevel guesses the level of a line of text.
func textLevel(line string) slog.Level {
	for prefix, level := range map[string]slog.Level{
		"[TRACE]": slog.LevelDebug, "[DEBUG]": slog.LevelDebug, "[WARN]": slog.LevelWarn, "[ERROR]": slog.LevelError,
	} {
		if strings.HasPrefix(line, prefix) {
			return level
		}
	}
	return slog.LevelInfo
}

// sanitize escapes what is not printable, so that a plugin can't move the
// cursor of a terminal or forge a line, and cuts the text to max bytes.
func sanitize(text string, max int) string {
	var b strings.Builder
	for i, r := range text {
		if b.Len() >= max {
			b.WriteString("…")
			break
		}
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}
