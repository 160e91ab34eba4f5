package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// ledgerFile is the name that the lines of the file begin with; the bytes of
// their sequence number are the key where records have one.
const (
	ledgerFile = "bench"
	keyFrom    = len(ledgerFile) + 1
	keyTo      = keyFrom + 12
)

// contender is one way to bring the file into the topic.
type contender struct {
	title string
	// command makes a program that sends the file to the topic, keeps what it
	// needs in folder, and stays until SIGTERM.
	command func(b *bench, folder, bootstrap, topic string) (*exec.Cmd, error)
	// connections is over how many the file is sent to b.address; 0: it reads the file itself.
	connections int
	needs       string // a program that has to be installed; "": none
}

// comparison is a contender and the loop that sends the same records to the same
// partitions.
type comparison struct {
	name     string
	baseline contender
	variant  contender
}

// comparisons lists all that can be measured. Records that get no key go to the
// partitions in turn where the agent's murmur2 sends them, and in runs where the
// agent's producer does; the loop beside it does the same.
func comparisons() []comparison {
	return append([]comparison{
		{"loop", loop("murmur2"), loop("murmur2")},
		{"loop-turn", loop("murmur2"), loop("turn")},
		{"loop-runs", loop("murmur2"), loop("runs")},
		{"bare", loop("runs"), agent("no plugins", "")},
		{"plugins", loop("turn"), agent("filter, string, murmur2", filterBlock+stringBlock+murmur2Block)},
		{"keyed", loop("murmur2"), agent("set (key), filter, string, murmur2", setBlock()+filterBlock+stringBlock+murmur2Block)},
		{"set", loop("murmur2"), agent("set (key)", setBlock())},
		{"filter", loop("runs"), agent("filter", filterBlock)},
		{"json", loop("runs"), agent("json", `  value_serializer "json" {}`+"\n")},
		{"all", loop("murmur2"), agent("set (key), filter, json, murmur2", setBlock()+filterBlock+`  value_serializer "json" {}`+"\n"+murmur2Block)},
	}, socketComparisons()...)
}

// Stages of the agent, as its configuration has them.
const (
	stringBlock  = "  value_serializer \"string\" {}\n"
	murmur2Block = "  partitioner \"murmur2\" {}\n"
	filterBlock  = `  interceptor "filter" {
    config = { drop = "value.contains('status=500')" }
  }
`
)

// setBlock cuts the key out of the line.
func setBlock() string {
	return fmt.Sprintf(`  interceptor "set" {
    config = { key = "value.substring(%d, %d)" }
  }
`, keyFrom, keyTo)
}

// loop sends the file without the agent.
func loop(partitioner string) contender {
	return contender{
		title: "loop, " + partitioner,
		command: func(b *bench, _, bootstrap, topic string) (*exec.Cmd, error) {
			return exec.Command(filepath.Join(b.folder, "loop"),
				"-bootstrap", bootstrap, "-topic", topic, "-file", b.file, "-partitioner", partitioner,
				"-partitions", strconv.Itoa(partitions), "-key-from", strconv.Itoa(keyFrom), "-key-to", strconv.Itoa(keyTo)), nil
		},
	}
}

// agent sends the file with the stages.
func agent(title, stages string) contender {
	return agentReading(title, func(b *bench) string { return fmt.Sprintf("source \"file\" { include = [%q] }", b.file) }, stages)
}

// agentReading is an agent with a source, as its configuration has it.
func agentReading(title string, source func(b *bench) string, stages string) contender {
	return contender{
		title: "agent, " + title,
		command: func(b *bench, folder, bootstrap, topic string) (*exec.Cmd, error) {
			path := filepath.Join(folder, "agent.hcl")
			text := configuration(b, folder, bootstrap, topic, source(b), stages)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				return nil, err
			}
			return exec.Command(filepath.Join(b.bin, "barnabas"), "run", "--config", path), nil
		},
	}
}

func configuration(b *bench, folder, bootstrap, topic, source, stages string) string {
	servers := strconv.Quote(bootstrap)
	servers = strings.ReplaceAll(servers, ",", `", "`)
	return fmt.Sprintf(`agent {
  data_dir    = %q
  plugin_dir  = %q
  http_listen = ""
  log_level   = "warn"
}

producer {
  bootstrap_servers = [%s]
  buffer_memory     = "32MiB"
}

pipeline "bench" {
  topic = %q
  %s
%s}
`, filepath.Join(folder, "data"), filepath.Join(b.bin, "plugins"), servers, topic, source, stages)
}
