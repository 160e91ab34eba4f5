package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/barnabas-agent/barnabas/core/metric"
	"github.com/barnabas-agent/barnabas/core/quarantine"
	"github.com/barnabas-agent/barnabas/core/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var discard = slog.New(slog.DiscardHandler)

// shortDir is a folder whose path leaves room for a socket's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "admin")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func config(dataDir string) Config {
	return Config{
		DataDir:    dataDir,
		HTTPListen: "127.0.0.1:0",
		Metrics:    metric.New().Handler(),
		Status:     func() Status { return Status{} },
		Ready:      func() []string { return nil },
		Healthy:    func() error { return nil },
	}
}

// run serves until the test ends, and fails it where serving or ending does.
func run(t *testing.T, c Config) *Server {
	t.Helper()
	s, err := Listen(t.Context(), c, discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

func dial(t *testing.T, dataDir string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), dataDir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// request sends one request on a connection of its own.
func request(t *testing.T, s *Server, method, path, host string) (int, http.Header, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.HTTPAddress()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if host != "" {
		r.Host = host
	}
	r.Close = true
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(body)
}

func TestHTTPAnswers(t *testing.T) {
	c := config(shortDir(t))
	ready, healthy := []string(nil), error(nil)
	c.Ready = func() []string { return ready }
	c.Healthy = func() error { return healthy }
	c.Status = func() Status { return Status{Version: "1.2.3", Pipelines: []Pipeline{{Name: "access"}}} }
	s := run(t, c)
	expect := func(path string, code int, content string) {
		t.Helper()
		got, _, body := request(t, s, "GET", path, "")
		if got != code || !strings.Contains(body, content) {
			t.Errorf("%s: %d %s, want %d with %s", path, got, body, code, content)
		}
	}
	expect("/metrics", 200, "go_goroutines")
	expect("/healthz", 200, `"healthy":true`)
	expect("/readyz", 200, `{"ready":true}`)
	expect("/api/v1/status", 200, `"name":"access"`)
	expect("/", 404, "")

	ready, healthy = []string{`plugin "redact" is starting`}, errors.New("no progress for 60s")
	expect("/readyz", 503, `{"ready":false,"reasons":["plugin \"redact\" is starting"]}`)
	expect("/healthz", 503, "no progress for 60s")
}

func TestHTTPIsReadOnlyAndShowsNoRecord(t *testing.T) {
	s := run(t, config(shortDir(t)))
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"} {
		for _, path := range []string{"/metrics", "/api/v1/status", "/"} {
			if code, header, _ := request(t, s, method, path, ""); code != 405 || header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: %d", method, path, code)
			}
		}
	}
	for _, path := range []string{"/api/v1/quarantine", "/api/v1/quarantine/access", "/api/v1/quarantine/access/1", "/debug/pprof/"} {
		if code, _, body := request(t, s, "GET", path, ""); code != 404 {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}

func TestLoopbackIsNotReadUnderForeignNames(t *testing.T) {
	s := run(t, config(shortDir(t)))
	for host, want := range map[string]int{
		"localhost": 200, "LocalHost:9464": 200, "127.0.0.1": 200, "127.9.9.9:1": 200, "[::1]:9464": 200, "app.localhost": 200,
		"evil.example": 403, "evil.example:9464": 403, "localhost.evil.example": 403, "127.0.0.1.evil.example": 403, "10.0.0.1": 403,
	} {
		if code, _, _ := request(t, s, "GET", "/healthz", host); code != want {
			t.Errorf("Host %s: %d, want %d", host, code, want)
		}
	}
}

func TestBeyondLoopbackNamesAreNotChecked(t *testing.T) {
	c := config(shortDir(t))
	c.HTTPListen = "0.0.0.0:0"
	s := run(t, c)
	if code, _, _ := request(t, s, "GET", "/healthz", "web-1.example"); code != 200 {
		t.Errorf("%d", code)
	}
}

// A client that opens connections and says nothing must not keep others out for ever.
func TestConnectionsAreBounded(t *testing.T) {
	s := run(t, config(shortDir(t)))
	var conns []net.Conn
	for range maxConnections {
		conn, err := net.Dial("tcp", s.HTTPAddress())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
		if _, err := fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	late, err := net.Dial("tcp", s.HTTPAddress())
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	if _, err := fmt.Fprintf(late, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := late.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(late).ReadString('\n'); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("connection %d was served: %q, %v", maxConnections+1, line, err)
	}
	if err := conns[0].Close(); err != nil {
		t.Fatal(err)
	}
	if err := late.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(late).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
		t.Errorf("after one connection ended: %q, %v", line, err)
	}
	for _, conn := range conns[1:] {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestNoHTTPServerWhenTurnedOff(t *testing.T) {
	c := config(shortDir(t))
	c.HTTPListen = ""
	if s := run(t, c); s.HTTPAddress() != "" {
		t.Errorf("it listens on %s", s.HTTPAddress())
	}
	if _, err := dial(t, c.DataDir).Status(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestABusyAddressIsNamedAndLeavesNothing(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	c := config(shortDir(t))
	c.HTTPListen = other.Addr().String()
	_, err = Listen(t.Context(), c, discard)
	if err == nil || !strings.Contains(err.Error(), "http_listen") || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("error is %v", err)
	}
	if _, err := os.Lstat(filepath.Join(c.DataDir, "admin.sock")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

func TestSocketGivesTheStatusWhole(t *testing.T) {
	want := Status{
		Version: "1.2.3", PID: 42, Started: time.Unix(1700000000, 0).UTC(), Ready: true,
		Pipelines: []Pipeline{{
			Name: "access", State: "running", Producer: "default",
			Sources: []Source{{Name: "file", Kind: "file", LagBytes: 2, Files: []File{{Path: "/var/log/a", Size: 10, Read: 9, Delivered: 8, Lag: 2}}}},
			Stages:  []Stage{{Name: "redact", Kind: "interceptor", Plugin: "redact", Version: "1", State: "up", PID: 43, Restarts: 1}},
		}},
		Producers: []Producer{{Name: "default", State: "up", BufferUsed: 1, BufferLimit: 2, InflightRecords: 3}},
		Totals:    Totals{ReadRecords: 5}, Rates: Rates{DeliveredRecords: 0.5},
	}
	c := config(shortDir(t))
	c.Status = func() Status { return want }
	run(t, c)
	got, err := dial(t, c.DataDir).Status(t.Context())
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestSocketIsForItsOwnerAndGoesWithTheServer(t *testing.T) {
	c := config(shortDir(t))
	path := filepath.Join(c.DataDir, "admin.sock")
	s, err := Listen(t.Context(), c, discard)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

func TestWhatIsInTheSocketsPlace(t *testing.T) {
	t.Run("left by a killed agent", func(t *testing.T) {
		c := config(shortDir(t))
		listener, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(c.DataDir, "admin.sock")})
		if err != nil {
			t.Fatal(err)
		}
		listener.SetUnlinkOnClose(false)
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := Dial(t.Context(), c.DataDir); !errors.Is(err, ErrNoAgent) {
			t.Errorf("dialling it: %v", err)
		}
		run(t, c)
		if _, err := dial(t, c.DataDir).Status(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("of a running agent", func(t *testing.T) {
		c := config(shortDir(t))
		run(t, c)
		if _, err := Listen(t.Context(), c, discard); err == nil || !strings.Contains(err.Error(), "another agent") {
			t.Errorf("error is %v", err)
		}
		if _, err := dial(t, c.DataDir).Status(t.Context()); err != nil {
			t.Errorf("the first agent lost its socket: %v", err)
		}
	})
	t.Run("a file", func(t *testing.T) {
		c := config(shortDir(t))
		path := filepath.Join(c.DataDir, "admin.sock")
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Listen(t.Context(), c, discard); err == nil || !strings.Contains(err.Error(), "not a socket") {
			t.Errorf("error is %v", err)
		}
		if content, err := os.ReadFile(path); err != nil || string(content) != "precious" {
			t.Errorf("the file was touched: %q, %v", content, err)
		}
	})
}

func TestALongDataDirIsNamed(t *testing.T) {
	for extra, fits := range map[int]bool{0: true, 1: false} {
		base := shortDir(t)
		dir := base + "/" + strings.Repeat("d", maxSocketPath-len(base)-len("//admin.sock")+extra)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		s, err := Listen(t.Context(), config(dir), discard)
		if fits {
			if err != nil {
				t.Error(err)
			} else if err := s.Close(); err != nil {
				t.Error(err)
			}
			continue
		}
		_, dialErr := Dial(t.Context(), dir)
		for _, err := range []error{err, dialErr} {
			if err == nil || !strings.Contains(err.Error(), "shorter data_dir") {
				t.Errorf("error is %v", err)
			}
		}
	}
}

func TestDialWithoutAnAgentSaysWhatToDo(t *testing.T) {
	dir := shortDir(t)
	_, err := Dial(t.Context(), dir)
	if !errors.Is(err, ErrNoAgent) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("error is %v", err)
	}
}

func TestQuarantineIsTheSameFromTheAgentAndTheFiles(t *testing.T) {
	c := config(shortDir(t))
	const pipeline = "we/ird é"
	store, err := quarantine.Open(quarantine.Dir(c.DataDir, pipeline), discard)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	entries := []quarantine.Entry{
		{
			Time: time.Unix(1700000000, 0), Stage: "filter", Code: "filter.expression", Message: "no such key", Topic: "access",
			Partition: record.PartitionAny, Key: quarantine.Field{Kind: record.Null},
			Value:   quarantine.Field{Kind: record.Bytes, Bytes: []byte("héllo")},
			Headers: []record.Header{{Name: "a", Value: []byte("1")}, {Name: "a"}},
			Origin:  record.Origin{Kind: "file", File: "/var/log/a"}, Offset: 3, End: 9,
		},
		{Partition: 2, Key: quarantine.Field{Bytes: []byte{0xff}}, Value: quarantine.Field{Kind: record.Object, Bytes: []byte{0x80}}},
	}
	if err := store.Append(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
	run(t, c)
	client := dial(t, c.DataDir)

	names, err := client.QuarantinedPipelines(t.Context())
	if err != nil || len(names) != 1 || names[0] != pipeline {
		t.Fatalf("pipelines %q, %v", names, err)
	}
	var online, offline []QuarantinedRecord
	for r, err := range client.Quarantine(t.Context(), pipeline) {
		if err != nil {
			t.Fatal(err)
		}
		online = append(online, r)
	}
	for r, err := range OfflineQuarantine(c.DataDir, pipeline) {
		if err != nil {
			t.Fatal(err)
		}
		offline = append(offline, r)
	}
	if len(online) != 2 || !reflect.DeepEqual(online, offline) {
		t.Errorf("the agent lists\n%+v\nthe files\n%+v", online, offline)
	}
	if online[0].Value.Bytes != nil || online[0].Value.Size != len("héllo") {
		t.Errorf("a list holds contents: %+v", online[0].Value)
	}

	got, err := client.QuarantinedRecord(t.Context(), pipeline, entries[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	if string(got.Value.Bytes) != "héllo" || got.Value.Text != "héllo" || got.Partition != nil || got.Origin.File != "/var/log/a" || got.Origin.Offset != 3 {
		t.Errorf("got %+v", got)
	}
	if got.Key.Kind != "null" || len(got.Headers) != 2 || got.Headers[1].Value.Kind != "null" {
		t.Errorf("got %+v", got)
	}
	second, err := OfflineQuarantinedRecord(c.DataDir, pipeline, entries[1].ID)
	if err != nil || second.Key.Text != "" || second.Key.Bytes[0] != 0xff || *second.Partition != 2 || second.Value.Kind != "object" {
		t.Errorf("got %+v, %v", second, err)
	}
	if _, err := client.QuarantinedRecord(t.Context(), pipeline, 99); err == nil || !strings.Contains(err.Error(), "no such record") {
		t.Errorf("error is %v", err)
	}
}

func TestDamageReachesTheClient(t *testing.T) {
	c := config(shortDir(t))
	dir := quarantine.Dir(c.DataDir, "access")
	store, err := quarantine.Open(dir, discard)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := store.Append(t.Context(), []quarantine.Entry{{Stage: "a"}, {Stage: "b"}}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "00000000000000000001")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[60] ^= 1
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, c)
	var stages, errs []string
	for r, err := range dial(t, c.DataDir).Quarantine(t.Context(), "access") {
		if err != nil {
			errs = append(errs, err.Error())
			continue
		}
		stages = append(stages, r.Stage)
	}
	if len(errs) != 1 || !strings.Contains(errs[0], "damaged") || len(stages) != 1 || stages[0] != "b" {
		t.Errorf("records %q, errors %q", stages, errs)
	}
}

func TestStatusDocumentKeepsItsNames(t *testing.T) {
	body, err := json.Marshal(Status{Pipelines: []Pipeline{{Sources: []Source{{Files: []File{{}}}}, Stages: []Stage{{PID: 1}}}}, Producers: []Producer{{}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"version", "pid", "started", "ready", "pipelines", "producers", "totals", "rates", "name", "state", "producer", "sources", "stages",
		"inflight_records", "oldest_unacked_seconds", "kind", "lag_bytes", "files", "path", "size", "read", "delivered", "lag",
		"plugin", "restarts", "buffer_used_bytes", "buffer_limit_bytes", "read_records", "read_bytes", "delivered_records",
		"delivered_bytes", "dropped_records", "quarantined_records",
	} {
		if !strings.Contains(string(body), `"`+name+`":`) {
			t.Errorf("the document lacks %q", name)
		}
	}
}
