package main

import (
	"errors"
	"strconv"
	"strings"

	"github.com/barnabas-agent/barnabas/plugins/sdk"
)

// Codes of the failures of records.
const (
	codeNotUTF8 = "not_utf8"
	codeNotJSON = "not_json"
)

// writer writes the records of one batch, each over the one before it. What
// consecutive records have in common, their source and mostly their millisecond,
// is formatted once and then copied.
type writer struct {
	batch *sdk.Batch
	keep  func(member []byte) bool
	has   members
	out   []byte // the record written last

	milliseconds int64
	timestamp    []byte // the JSON of milliseconds; empty before the first
	source       sdk.Source
	origin       []byte // the members "source" and "file" or "peer" of source, each with a comma behind it
	host         []byte // the member "host" of source, likewise
	sourceKnown  bool   // origin and host hold those of source
}

// members says which members the object made from text has.
type members struct {
	message, timestamp, source, file, peer, offset, host bool
}

func newWriter(j *JSON, b *sdk.Batch) *writer {
	return &writer{
		batch: b,
		keep:  func(member []byte) bool { return j.includes(string(member)) },
		has: members{
			message:   j.includes("message"),
			timestamp: j.includes("timestamp"),
			source:    j.includes("source"),
			file:      j.includes("file"),
			peer:      j.includes("peer"),
			offset:    j.includes("offset"),
			host:      j.includes("host"),
		},
	}
}

// object writes the JSON of a MessagePack value.
func (w *writer) object(encoded []byte) error {
	var err error
	w.out, err = appendObject(w.out[:0], encoded, w.keep)
	if errors.Is(err, errNotUTF8) {
		return sdk.Errorf(codeNotUTF8, "the object has %w", err)
	}
	if err != nil {
		return sdk.Errorf(codeNotJSON, "the object can't be written as JSON: %w", err)
	}
	return nil
}

// text writes the object, or for a key the string, that the text of record i becomes.
func (w *writer) text(i int) error {
	payload := w.batch.Payload(i)
	if w.batch.Role() == sdk.RoleKey {
		return w.message(w.out[:0], payload)
	}
	w.out = append(w.out[:0], '{')
	if w.has.message {
		if err := w.message(append(w.out, `"message":`...), payload); err != nil {
			return err
		}
		w.out = append(w.out, ',')
	}
	if w.has.timestamp {
		if err := w.stamp(w.batch.Timestamp(i)); err != nil {
			return err
		}
	}
	if w.has.source || w.has.file || w.has.peer || w.has.offset || w.has.host {
		w.place(w.batch.Source(i))
	}
	if last := len(w.out) - 1; w.out[last] == ',' {
		w.out = w.out[:last]
	}
	w.out = append(w.out, '}')
	return nil
}

func (w *writer) message(dst, text []byte) error {
	var ok bool
	if w.out, ok = appendString(dst, text); !ok {
		return sdk.Errorf(codeNotUTF8, "the %s is not UTF-8", w.payloadName())
	}
	return nil
}

func (w *writer) payloadName() string {
	if w.batch.Role() == sdk.RoleKey {
		return "key"
	}
	return "value"
}

// stamp writes the member "timestamp".
func (w *writer) stamp(milliseconds int64) error {
	if len(w.timestamp) == 0 || milliseconds != w.milliseconds {
		var ok bool
		if w.timestamp, ok = appendMilliseconds(w.timestamp[:0], milliseconds); !ok {
			return sdk.Errorf(codeNotJSON, "timestamp %d ms: %w", milliseconds, errYear)
		}
		w.milliseconds = milliseconds
	}
	w.out = append(w.out, `"timestamp":`...)
	w.out = append(w.out, w.timestamp...)
	w.out = append(w.out, ',')
	return nil
}

// place writes the members that say where the record comes from.
func (w *writer) place(source sdk.Source) {
	offset := source.Offset
	source.Offset = 0
	if !w.sourceKnown || source != w.source {
		w.learn(source)
	}
	w.out = append(w.out, w.origin...)
	if w.has.offset {
		w.out = append(w.out, `"offset":`...)
		w.out = strconv.AppendInt(w.out, offset, 10)
		w.out = append(w.out, ',')
	}
	w.out = append(w.out, w.host...)
}

// learn formats what all records of one source have in common.
func (w *writer) learn(source sdk.Source) {
	w.origin, w.host = w.origin[:0], w.host[:0]
	if w.has.source {
		w.origin = appendMember(w.origin, "source", source.Kind)
	}
	if w.has.file && source.File != "" {
		w.origin = appendMember(w.origin, "file", source.File)
	}
	if w.has.peer && source.Peer != "" {
		w.origin = appendMember(w.origin, "peer", source.Peer)
	}
	if w.has.host {
		w.host = appendMember(w.host, "host", source.Host)
	}
	w.source, w.sourceKnown = source, true
}

// appendMember writes a member with a comma behind it. Names of files are any
// bytes: what is not UTF-8 in them becomes U+FFFD, since it is no fault of the record.
func appendMember(dst []byte, name, value string) []byte {
	dst = append(dst, '"')
	dst = append(dst, name...)
	dst = append(dst, `":`...)
	dst, _ = appendString(dst, []byte(strings.ToValidUTF8(value, "\uFFFD")))
	return append(dst, ',')
}
