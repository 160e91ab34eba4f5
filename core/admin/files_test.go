package admin

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestFilesOverTheSocket(t *testing.T) {
	var want []TrackedFile
	for n := range 2500 {
		want = append(want, TrackedFile{
			Pipeline: "p", Source: "file", Path: fmt.Sprintf("/var/log/\n%d", n), Real: "/x", Identity: "1.2:3:g4", State: "reading",
			Size: 30, Read: 20, Delivered: 10, Lag: 20,
		})
	}
	explained := []FileExplanation{{
		Pipeline: "p", Source: "file", Path: "/a b?c=d&e", Followed: true, Why: "it is read", Files: want[:1],
		Decisions: []FileDecision{{Time: time.Unix(1, 2).UTC(), Path: "/a", Identity: "1.2:3:g4", What: "read anew", Reason: "r", Position: 1, Size: 2, Lost: 3}},
	}}
	c := config(shortDir(t))
	c.Files = func() []TrackedFile { return want }
	c.ExplainFile = func(path string) []FileExplanation {
		if path != explained[0].Path {
			t.Errorf("asked for %q", path)
		}
		return explained
	}
	s := run(t, c)
	client := dial(t, c.DataDir)
	if got, err := client.Files(t.Context()); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%d files, %v", len(got), err)
	}
	if got, err := client.ExplainFile(t.Context(), explained[0].Path); err != nil || !reflect.DeepEqual(got, explained) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := client.ExplainFile(t.Context(), "a.log"); err == nil || !strings.Contains(err.Error(), "absolute") {
		t.Errorf("a relative path gives %v", err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.HTTPAddress()+"/api/v1/files", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if response.StatusCode != http.StatusNotFound {
		t.Errorf("over HTTP: %s", response.Status)
	}
}
