package pluginhost

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/core/metric"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func newMetrics() *metric.Table { return metric.New() }

func TestValidateAcceptsAGoodStage(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if err := f.Validate(t.Context(), f.spec(Interceptor, "trial", trial{Suffix: "!"})); err != nil {
		t.Fatal(err)
	}
	kept, err := filepath.Glob(filepath.Join(f.dir, "cache", "*.v1.json"))
	if err != nil || len(kept) != 1 {
		t.Errorf("descriptions kept: %v %v, want one", kept, err)
	}
}

func TestValidateAcceptsAPluginThatOnlyDescribesItselfWhenAsked(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if err := f.Validate(t.Context(), f.spec(Interceptor, "liar", map[string]any{})); err != nil {
		t.Fatal(err)
	}
}

func TestValidateSaysWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		spec   func(f *fixture) Spec
		reason Reason
		says   string
	}{
		"missing":        {func(f *fixture) Spec { return f.spec(Interceptor, "nobody", nil) }, Missing, "barnabas-interceptor-nobody"},
		"traversal":      {func(f *fixture) Spec { return f.spec(Interceptor, "x/../../barnabas-interceptor-trial", nil) }, Missing, "no plugin's name"},
		"directory":      {func(f *fixture) Spec { return at(f.spec(Interceptor, "x", nil), f.dir) }, Directory, "is a directory"},
		"not executable": {func(f *fixture) Spec { return at(f.spec(Interceptor, "x", nil), f.file("x", "#!/bin/sh\n", 0o644)) }, NotExecutable, "chmod"},
		"data":           {func(f *fixture) Spec { return at(f.spec(Interceptor, "x", nil), f.file("x", "GIF89a", 0o755)) }, NotPlugin, "neither"},
		"empty":          {func(f *fixture) Spec { return at(f.spec(Interceptor, "x", nil), f.file("x", "", 0o755)) }, NotPlugin, "neither"},
		"no interpreter": {func(f *fixture) Spec { return at(f.spec(Interceptor, "x", nil), f.file("x", "#!/no/such\n", 0o755)) }, NotPlugin, "interpreter"},
		"another binary": {func(f *fixture) Spec { return at(f.spec(Interceptor, "x", nil), "/bin/true") }, NotPlugin, "ended before its handshake"},
		"exits":          {func(f *fixture) Spec { return f.spec(Interceptor, "exits", nil) }, NotPlugin, "no licence found"},
		"garbage":        {func(f *fixture) Spec { return f.spec(Interceptor, "garbage", nil) }, NotPlugin, "hello, I am a shell script"},
		"hangs":          {func(f *fixture) Spec { return f.spec(Interceptor, "hangs", nil) }, StartTimeout, "did not get ready"},
		"stuck":          {func(f *fixture) Spec { return f.spec(Interceptor, "stuck", trial{}) }, StartTimeout, "did not get ready"},
		"future":         {func(f *fixture) Spec { return f.spec(Interceptor, "future", nil) }, ProtocolVersion, "version 9"},
		"remote":         {func(f *fixture) Spec { return f.spec(Interceptor, "remote", nil) }, Failed, "unix socket"},
		"wrong kind": {func(f *fixture) Spec {
			return at(f.spec(Partitioner, "x", nil), filepath.Join(f.dir, "barnabas-interceptor-trial"))
		}, WrongKind, "interceptor, not a partitioner"},
		"world-writable": {func(f *fixture) Spec { return at(f.spec(Interceptor, "x", nil), f.file("x", "#!/bin/sh\n", 0o777)) }, Untrusted, "writable for everybody"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			began := time.Now()
			err := f.Validate(t.Context(), c.spec(f))
			if took := time.Since(began); took > 15*time.Second {
				t.Errorf("it took %s", took)
			}
			var failed *Error
			if !errors.As(err, &failed) {
				t.Fatalf("got %v, want an *Error", err)
			}
			if failed.Reason != c.reason || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %s: %v; want %s and %q", failed.Reason, err, c.reason, c.says)
			}
			if failed.Hint == "" {
				t.Errorf("%v does not say what to do", err)
			}
			if strings.ContainsRune(err.Error(), 0x1b) {
				t.Errorf("%q holds a control character", err)
			}
		})
	}
}

func FuzzSchema(f *testing.F) {
	f.Add(`{"$ref":"#","additionalProperties":false}`, `{"a":1}`)
	f.Add(`{"properties":{"a":{"$ref":"#"}},"additionalProperties":false}`, `{"a":{"a":{"b":1}}}`)
	f.Add(`{"$ref":"file:///etc/passwd"}`, `{}`)
	f.Add(`{"type":"object","required":["a/b~c"]}`, `{}`)
	f.Add(`true`, `[]`)
	f.Fuzz(func(t *testing.T, schema, config string) {
		exe := &executable{plugin: "p", path: "/p"}
		err := checkSchema(exe, &wirev1.Description{ConfigSchema: schema}, []byte(config))
		var failed *Error
		if errors.As(err, &failed) && failed.Reason == ConfigRefused && len(failed.Config) == 0 {
			t.Error("a configuration is refused without a reason")
		}
	})
}

func at(s Spec, path string) Spec {
	s.Path = path
	return s
}

// file makes a file beside the plugins.
func (f *fixture) file(name, text string, mode os.FileMode) string {
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		panic(err)
	}
	if err := os.Chmod(path, mode); err != nil { // past the umask
		panic(err)
	}
	return path
}

func TestValidateNamesTheMembersOfAConfiguration(t *testing.T) {
	for name, c := range map[string]struct {
		config map[string]any
		want   []string
	}{
		"unknown":     {map[string]any{"sufix": "x", "markr": 1}, []string{"/markr", "/sufix"}},
		"wrong type":  {map[string]any{"suffix": 7}, []string{"/suffix"}},
		"too long":    {map[string]any{"suffix": "123456789"}, []string{"/suffix"}},
		"by a plugin": {map[string]any{"forbid": "x"}, []string{"/forbid"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			err := f.Validate(t.Context(), f.spec(Interceptor, "trial", c.config))
			var failed *Error
			if !errors.As(err, &failed) || failed.Reason != ConfigRefused {
				t.Fatalf("got %v, want a refused configuration", err)
			}
			var got []string
			for _, e := range failed.Config {
				got = append(got, e.Pointer)
				if e.Message == "" {
					t.Errorf("%s: no message", e.Pointer)
				}
			}
			slices.Sort(got)
			if name == "unknown" && !strings.Contains(err.Error(), `did you mean "suffix"?`) {
				t.Errorf("%v does not say what was meant", err)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("members %v, want %v", got, c.want)
			}
		})
	}
}

func TestForeignOwnersAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := groupMembers{passwd: filepath.Join(dir, "passwd"), group: filepath.Join(dir, "group")}
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(files.passwd, "root:x:0:0::/root:/bin/sh\nbarnabas:x:200:200::/:/bin/false\nmallory:x:300:300::/:/bin/sh\n")
	write(files.group, "root:x:0:\nbarnabas:x:200:\nstaff:x:50:mallory\nmallory:x:300:\nours:x:60:root,barnabas\n")
	for gid, want := range map[uint32]bool{0: true, 200: true, 60: true, 50: false, 300: false, 999: false} {
		if got := files.private(gid, 200); got != want {
			t.Errorf("group %d private: %v, want %v", gid, got, want)
		}
	}
	if os.Geteuid() != 0 {
		return // only root can give files away
	}
	path := filepath.Join(dir, "plugin")
	write(path, "x")
	if err := os.Chown(path, 12345, 0); err != nil {
		t.Fatal(err)
	}
	if why, err := judge(t, path); err != nil || !strings.Contains(why, "owned by user 12345") {
		t.Errorf("a file of another user: %q %v", why, err)
	}
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o777); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(open, "plugin"), "x")
	os.Chmod(open, 0o777)
	if why, err := judge(t, filepath.Join(open, "plugin")); err != nil || !strings.Contains(why, "writable for everybody") {
		t.Errorf("a file in an open directory: %q %v", why, err)
	}
	os.Chmod(open, 0o777|os.ModeSticky)
	if why, err := judge(t, filepath.Join(open, "plugin")); err != nil || why != "" {
		t.Errorf("a file in a sticky directory: %q %v", why, err)
	}
}

func judge(t *testing.T, path string) (string, error) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return untrusted(path, info)
}
