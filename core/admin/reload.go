package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// reloadTimeout bounds the answer to a reload: plugins start, and finish what they have.
const reloadTimeout = 5 * time.Minute

// ErrNoStage says that the agent has no stage of that name.
var ErrNoStage = errors.New("no such stage")

// Reload is what became of one stage's plugin.
type Reload struct {
	Pipeline string `json:"pipeline"`
	Stage    string `json:"stage"`
	Before   string `json:"before"`          // the version that ran
	After    string `json:"after"`           // the version that runs now
	Error    string `json:"error,omitempty"` // why the old process stays; empty: the new one has taken over
}

// reloadPlugins replaces the plugins of all stages, or of the one that the query names.
func (s *Server) reloadPlugins(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "a reload is a POST", http.StatusMethodNotAllowed)
		return
	}
	control := http.NewResponseController(w)
	deadline := time.Now().Add(reloadTimeout)
	if err := errors.Join(control.SetReadDeadline(deadline), control.SetWriteDeadline(deadline)); err != nil {
		s.log.Error("admin: a reload's answer can't be given time", "error", err)
	}
	ctx, cancel := context.WithTimeout(r.Context(), reloadTimeout)
	defer cancel()
	reloads, err := s.config.ReloadPlugins(ctx, r.URL.Query().Get("stage"))
	switch {
	case errors.Is(err, ErrNoStage):
		http.Error(w, err.Error(), http.StatusNotFound)
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	default:
		s.answer(w, http.StatusOK, reloads)
	}
}

// ReloadPlugins asks the agent to start the plugins' files as they are now and
// to move the lanes over: those of all stages, or of one, "PIPELINE/STAGE". The
// error is about the request; what became of each stage is in the reloads.
func (c *Client) ReloadPlugins(ctx context.Context, stage string) ([]Reload, error) {
	target := "http://agent/api/v1/plugins/reload"
	if stage != "" {
		target += "?stage=" + url.QueryEscape(stage)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, nil)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask the agent on %s: %w", c.path, err)
	}
	defer response.Body.Close() // read only: nothing to lose
	if response.StatusCode != http.StatusOK {
		message, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
		return nil, errors.Join(errors.New(strings.TrimSpace(string(message))), err)
	}
	var reloads []Reload
	if err := json.NewDecoder(response.Body).Decode(&reloads); err != nil {
		return nil, fmt.Errorf("read the agent's answer: %w", err)
	}
	return reloads, nil
}
