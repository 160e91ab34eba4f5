package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/barnabas-agent/barnabas/core/pluginhost"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

// description is what a plugin says of itself, in the words of the configuration.
type description struct {
	Name                  string          `json:"name"`
	Kind                  string          `json:"kind"` // as in its file's name
	Version               string          `json:"version"`
	ProtocolVersions      []uint32        `json:"protocol_versions"`
	File                  string          `json:"file"`
	Checksum              string          `json:"checksum"` // as the configuration's attribute
	Script                bool            `json:"script"`   // the checksum covers the script alone
	Reads                 []string        `json:"reads"`    // columns, at most
	Writes                []string        `json:"writes"`   // likewise
	MayDrop               bool            `json:"may_drop"`
	AcceptsObjects        bool            `json:"accepts_objects"`
	WantsTopology         bool            `json:"wants_topology"`
	WantsAcknowledgements bool            `json:"wants_acknowledgements"`
	Deterministic         bool            `json:"deterministic"`
	ConfigSchema          json.RawMessage `json:"config_schema"` // JSON Schema; null: none
}

func describe(path string, file pluginhost.File, d *wirev1.Description) description {
	kind := strings.ToLower(strings.TrimPrefix(d.GetKind().String(), "STAGE_KIND_"))
	schema := json.RawMessage(d.GetConfigSchema())
	if !json.Valid(schema) {
		schema = nil
	}
	return description{
		Name: d.GetName(), Kind: kind, Version: d.GetVersion(), ProtocolVersions: d.GetProtocolVersions(), File: path,
		Checksum: "sha256:" + file.SHA256, Script: file.Script,
		Reads: columns(d.GetReads()), Writes: columns(d.GetWrites()),
		MayDrop: d.GetMayDrop(), AcceptsObjects: d.GetAcceptsObjects(), WantsTopology: d.GetWantsTopology(),
		WantsAcknowledgements: d.GetWantsAcknowledgements(), Deterministic: d.GetDeterministic(), ConfigSchema: schema,
	}
}

// columns names the columns of a set.
func columns(set *wirev1.ColumnSet) []string {
	names := []string{}
	for _, column := range []struct {
		name string
		in   bool
	}{
		{"value", set.GetValue()}, {"key", set.GetKey()}, {"headers", set.GetHeaders()}, {"timestamp", set.GetTimestamp()},
		{"topic", set.GetTopic()}, {"partition", set.GetPartition()}, {"source", set.GetSource()},
	} {
		if column.in {
			names = append(names, column.name)
		}
	}
	return names
}

func (d *description) protocols() string {
	return strings.Trim(fmt.Sprint(d.ProtocolVersions), "[]")
}

// write prints the description for people.
func (d *description) write(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "name\t%s\n", printable(d.Name))
	fmt.Fprintf(w, "kind\t%s\n", d.Kind)
	fmt.Fprintf(w, "version\t%s\n", printable(d.Version))
	fmt.Fprintf(w, "protocol\t%s\n", d.protocols())
	fmt.Fprintf(w, "file\t%s\n", printable(d.File))
	fmt.Fprintf(w, "checksum\t%s\n", d.Checksum)
	if d.Script {
		fmt.Fprintf(w, "\t(of the script alone, not of its interpreter and of what it imports)\n")
	}
	fmt.Fprintf(w, "reads\t%s\n", orNothing(d.Reads))
	fmt.Fprintf(w, "writes\t%s\n", orNothing(d.Writes))
	for _, property := range []struct {
		name string
		is   bool
	}{
		{"may drop records", d.MayDrop}, {"accepts objects", d.AcceptsObjects}, {"asks for partition counts", d.WantsTopology},
		{"is told of deliveries", d.WantsAcknowledgements}, {"deterministic", d.Deterministic},
	} {
		fmt.Fprintf(w, "%s\t%s\n", property.name, yesOrNo(property.is))
	}
	fmt.Fprintf(w, "config\t%s\n", d.schema())
	return w.Flush()
}

// schema is the indented schema, each line of it safe for a terminal.
func (d *description) schema() string {
	if d.ConfigSchema == nil {
		return "no schema"
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, d.ConfigSchema, "", "  "); err != nil {
		return "no schema" // describe has checked that it is JSON
	}
	lines := strings.Split(indented.String(), "\n")
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	return "a JSON Schema:\n" + strings.Join(lines, "\n")
}

func orNothing(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

func yesOrNo(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}
