// Package admin is the agent's outside for people and scripts: a read-only HTTP
// server, the admin socket in the data directory, and the client of the latter.
package admin

import "time"

// Status is what a running agent says of itself: the document of
// /api/v1/status and of `barnabas status --json`. Members are only ever added.
type Status struct {
	Version   string     `json:"version"`
	PID       int        `json:"pid"`
	Started   time.Time  `json:"started"`
	Ready     bool       `json:"ready"`
	Reasons   []string   `json:"reasons,omitempty"` // why it is not ready
	Pipelines []Pipeline `json:"pipelines"`
	Producers []Producer `json:"producers"`
	Totals    Totals     `json:"totals"` // since the start, over all pipelines
	Rates     Rates      `json:"rates"`  // over all pipelines
}

// Pipeline is one configured pipeline.
type Pipeline struct {
	Name                 string   `json:"name"`
	State                string   `json:"state"` // "running", "blocked" (see Detail), "stopped"
	Detail               string   `json:"detail,omitempty"`
	Producer             string   `json:"producer"`
	Sources              []Source `json:"sources"`
	Stages               []Stage  `json:"stages"` // in the order in which records pass them
	InflightRecords      int64    `json:"inflight_records"`
	OldestUnackedSeconds float64  `json:"oldest_unacked_seconds"`
	Totals               Totals   `json:"totals"`
	Rates                Rates    `json:"rates"`
}

// Source is one source of a pipeline.
type Source struct {
	Name     string `json:"name"`
	Kind     string `json:"kind"` // "file", "socket", "stdin"
	LagBytes int64  `json:"lag_bytes"`
	Files    []File `json:"files,omitempty"`
	// What follows is of sources that have it.
	Listen      string `json:"listen,omitempty"`      // the address, with the port that the kernel chose
	Connections int64  `json:"connections,omitempty"` // open now
	Dropped     int64  `json:"dropped,omitempty"`     // records, since the start
	Spool       *Spool `json:"spool,omitempty"`
}

// Spool is what a source has accepted and not delivered; its figures are bytes on disk.
type Spool struct {
	Used  int64 `json:"used_bytes"`
	Limit int64 `json:"limit_bytes"`
}

// File is a tracked file; its figures are bytes.
type File struct {
	Path      string `json:"path"`
	Size      int64  `json:"size"`
	Read      int64  `json:"read"`      // where the next read begins
	Delivered int64  `json:"delivered"` // everything before is resolved
	Lag       int64  `json:"lag"`       // Size - Delivered
}

// Stage is one plugin of a pipeline.
type Stage struct {
	Name     string `json:"name"`
	Kind     string `json:"kind"` // "interceptor", "key_serializer", "value_serializer", "partitioner"
	Plugin   string `json:"plugin"`
	Version  string `json:"version"`
	State    string `json:"state"` // "up", "starting", "down", "broken": the worst of its instances
	Detail   string `json:"detail,omitempty"`
	PID      int    `json:"pid,omitempty"` // of the first instance
	Restarts int64  `json:"restarts"`      // of all instances
	// Instances are the processes that share the stage's lanes, where there are several.
	Instances []Instance `json:"instances,omitempty"`
}

// Instance is one of several processes of a stage.
type Instance struct {
	State    string `json:"state"`
	Detail   string `json:"detail,omitempty"`
	PID      int    `json:"pid,omitempty"`
	Restarts int64  `json:"restarts"`
}

// Producer is one producer block.
type Producer struct {
	Name            string `json:"name"`
	State           string `json:"state"` // "up", "down"
	Detail          string `json:"detail,omitempty"`
	BufferUsed      int64  `json:"buffer_used_bytes"`
	BufferLimit     int64  `json:"buffer_limit_bytes"`
	InflightRecords int64  `json:"inflight_records"`
}

// Totals counts records and bytes since the agent's start.
type Totals struct {
	ReadRecords        int64 `json:"read_records"`
	ReadBytes          int64 `json:"read_bytes"`
	DeliveredRecords   int64 `json:"delivered_records"`
	DeliveredBytes     int64 `json:"delivered_bytes"`
	DroppedRecords     int64 `json:"dropped_records"`
	QuarantinedRecords int64 `json:"quarantined_records"`
}

// Rates are per second, over the last few seconds.
type Rates struct {
	ReadRecords      float64 `json:"read_records"`
	ReadBytes        float64 `json:"read_bytes"`
	DeliveredRecords float64 `json:"delivered_records"`
	DeliveredBytes   float64 `json:"delivered_bytes"`
}
