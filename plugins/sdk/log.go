package sdk

import (
	"io"
	"log/slog"
	"strings"
)

// timestampLayout is that of hclog's JSON, which go-plugin parses.
const timestampLayout = "2006-01-02T15:04:05.000000Z07:00"

// levelTrace is below debug, as hclog has it.
const levelTrace = slog.LevelDebug - 4

// logLevel reads a level's name; info for any other.
func logLevel(name string) slog.Level {
	if strings.EqualFold(name, "trace") {
		return levelTrace
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(name)); err != nil {
		return slog.LevelInfo
	}
	return level
}

// logHandler writes the JSON lines that the agent reads from a plugin's stderr.
func logHandler(to io.Writer, level slog.Level) slog.Handler {
	return slog.NewJSONHandler(to, &slog.HandlerOptions{Level: level, ReplaceAttr: renameLogKeys})
}

func renameLogKeys(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch {
	case a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime:
		return slog.String("@timestamp", a.Value.Time().Format(timestampLayout))
	case a.Key == slog.LevelKey:
		if level, ok := a.Value.Any().(slog.Level); ok {
			return slog.String("@level", strings.ToLower(level.String()))
		}
	case a.Key == slog.MessageKey:
		return slog.String("@message", a.Value.String())
	}
	return a
}
