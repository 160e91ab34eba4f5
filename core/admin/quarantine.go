package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/barnabas-agent/barnabas/core/quarantine"
	"github.com/barnabas-agent/barnabas/core/record"
)

// QuarantinedRecord is a record in the quarantine as `barnabas quarantine`
// prints it. A list leaves contents out, see [Payload].
type QuarantinedRecord struct {
	Pipeline  string        `json:"pipeline"`
	ID        uint64        `json:"id"`
	Time      time.Time     `json:"time"`
	Stage     string        `json:"stage"`
	Code      string        `json:"code"`
	Message   string        `json:"message"`
	Topic     string        `json:"topic"`
	Partition *int32        `json:"partition,omitempty"` // nil: not chosen yet
	Timestamp time.Time     `json:"timestamp"`
	Key       Payload       `json:"key"`
	Value     Payload       `json:"value"`
	Headers   []Header      `json:"headers,omitempty"`
	Origin    RecordsOrigin `json:"source"`
}

// RecordsOrigin is where a record was read.
type RecordsOrigin struct {
	Kind   string `json:"kind"`
	File   string `json:"file,omitempty"`
	Peer   string `json:"peer,omitempty"`
	Host   string `json:"host,omitempty"`
	Offset int64  `json:"offset"`
	End    int64  `json:"end"`
}

// Payload is a key, a value, or a header's value.
type Payload struct {
	Kind  string `json:"kind"` // "bytes", "null", "object" (MessagePack)
	Size  int    `json:"size"`
	Bytes []byte `json:"bytes,omitempty"` // exact; base64 in JSON
	Text  string `json:"text,omitempty"`  // the same where it is UTF-8
}

// Header is one header of a record.
type Header struct {
	Name  string  `json:"name"`
	Value Payload `json:"value"`
}

// OfflineQuarantine lists a pipeline's quarantine straight from the data
// directory, as [Client.Quarantine] does from a running agent. It changes nothing.
func OfflineQuarantine(dataDir, pipeline string) iter.Seq2[QuarantinedRecord, error] {
	return func(yield func(QuarantinedRecord, error) bool) {
		for e, err := range quarantine.NewReader(quarantine.Dir(dataDir, pipeline)).All(0) {
			if err != nil {
				if !yield(QuarantinedRecord{}, err) {
					return
				}
				continue
			}
			if !yield(describe(pipeline, e, false), nil) {
				return
			}
		}
	}
}

// OfflineQuarantinedRecord reads one record with its contents, see [Client.QuarantinedRecord].
func OfflineQuarantinedRecord(dataDir, pipeline string, id uint64) (QuarantinedRecord, error) {
	e, err := quarantine.NewReader(quarantine.Dir(dataDir, pipeline)).Get(id)
	if err != nil {
		return QuarantinedRecord{}, fmt.Errorf("pipeline %q: %w", pipeline, err)
	}
	return describe(pipeline, e, true), nil
}

func describe(pipeline string, e quarantine.Entry, contents bool) QuarantinedRecord {
	r := QuarantinedRecord{
		Pipeline: pipeline, ID: e.ID, Time: e.Time.UTC(),
		Stage: e.Stage, Code: e.Code, Message: e.Message, Topic: e.Topic,
		Timestamp: time.UnixMilli(e.Timestamp).UTC(),
		Key:       describeBytes(e.Key.Kind, e.Key.Bytes, contents),
		Value:     describeBytes(e.Value.Kind, e.Value.Bytes, contents),
		Origin: RecordsOrigin{
			Kind: e.Origin.Kind, File: e.Origin.File, Peer: e.Origin.Peer, Host: e.Origin.Host,
			Offset: e.Offset, End: e.End,
		},
	}
	if e.Partition != record.PartitionAny {
		r.Partition = &e.Partition
	}
	for _, h := range e.Headers {
		kind := record.Bytes
		if h.Value == nil {
			kind = record.Null
		}
		r.Headers = append(r.Headers, Header{Name: h.Name, Value: describeBytes(kind, h.Value, contents)})
	}
	return r
}

func describeBytes(kind record.Kind, b []byte, contents bool) Payload {
	p := Payload{Kind: kind.String(), Size: len(b)}
	if !contents {
		return p
	}
	p.Bytes = b
	if kind == record.Bytes && utf8.Valid(b) {
		p.Text = string(b)
	}
	return p
}

// quarantineLine is one line of a list: a record, or why one can't be read.
type quarantineLine struct {
	Record *QuarantinedRecord `json:"record,omitempty"`
	Error  string             `json:"error,omitempty"`
}

func (s *Server) listPipelines(w http.ResponseWriter, _ *http.Request) {
	names, err := quarantine.Pipelines(s.config.DataDir)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.answer(w, http.StatusOK, names)
}

// listQuarantine answers with a JSON document per line, so that neither side
// holds a quarantine in memory. A client has the request timeout per line.
func (s *Server) listQuarantine(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	encoder, connection := json.NewEncoder(w), http.NewResponseController(w)
	for record, err := range OfflineQuarantine(s.config.DataDir, r.PathValue("pipeline")) {
		line := quarantineLine{Record: &record}
		if err != nil {
			line = quarantineLine{Error: err.Error()}
		}
		if err := connection.SetWriteDeadline(time.Now().Add(requestTimeout)); err != nil {
			s.log.Debug("admin: a list can't be extended", "error", err)
			return
		}
		if err := encoder.Encode(line); err != nil {
			s.log.Debug("admin: a client went away", "error", err)
			return
		}
	}
}

func (s *Server) showQuarantine(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	if err != nil {
		http.Error(w, "a record's id is a number", http.StatusBadRequest)
		return
	}
	record, err := OfflineQuarantinedRecord(s.config.DataDir, r.PathValue("pipeline"), id)
	switch {
	case errors.Is(err, quarantine.ErrNotFound):
		http.Error(w, err.Error(), http.StatusNotFound)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		s.answer(w, http.StatusOK, record)
	}
}
