package file

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/core/charset"
	"github.com/barnabas-agent/barnabas/core/record"
)

// BenchmarkReadFormats reads 200-byte messages of every format from the page cache;
// bytes are those of the messages.
func BenchmarkReadFormats(b *testing.B) {
	const lines = 100_000
	message := "2024-01-02 " + strings.Repeat("x", 188)
	plain := strings.Repeat(message+"\n", lines)
	const at = "2016-10-06T00:17:09.669794202Z"
	utf16, err := charset.Lookup("utf-16le")
	if err != nil {
		b.Fatal(err)
	}
	for name, c := range map[string]struct {
		change  func(*Config)
		content func() string
	}{
		"cri": {func(c *Config) { c.Format = CRI }, func() string { return strings.Repeat(at+" stdout F "+message+"\n", lines) }},
		"docker": {func(c *Config) { c.Format = Docker }, func() string {
			return strings.Repeat(`{"log":"`+message+`\n","stream":"stdout","time":"`+at+"\"}\n", lines)
		}},
		"utf-16":   {func(c *Config) { c.Charset = utf16 }, func() string { return encode(b, "utf-16le", plain) }},
		"truncate": {func(c *Config) { c.OnLongLine = Truncate }, func() string { return plain }},
		"multiline": {func(c *Config) {
			c.Multiline = &Multiline{Start: regexp.MustCompile(`^\d{4}-`), Timeout: time.Hour, MaxLines: 1000}
		}, func() string { return plain + "2024-\n" }},
		"gzip": {func(c *Config) { c.Decompress = true }, func() string { return gzipOf(b, plain) }},
		"zstd": {func(c *Config) { c.Decompress = true }, func() string { return zstdOf(b, plain) }},
	} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "a.log"), []byte(c.content()), 0o600); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(plain)))
			b.ResetTimer()
			begin := cpuTime(b)
			for range b.N {
				config := configOf(filepath.Join(dir, "*.log"))
				c.change(&config)
				s := newSource(b, config)
				ctx, cancel := context.WithCancel(context.Background())
				lane := &discardLane{batch: &record.Batch{}, ended: cancel, total: lines}
				if err := s.Run(ctx, []record.Lane{lane}); err != nil {
					b.Fatal(err)
				}
				s.Close()
			}
			b.ReportMetric(float64(cpuTime(b)-begin)/float64(b.N*lines), "cpu-ns/record")
		})
	}
}
