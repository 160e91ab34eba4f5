package broker

import (
	"bytes"
	"context"
	_ "embed" // the source of the Java side
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

//go:embed Partitions.java
var partitionsSource []byte

// Tool prepares a short-lived JVM that runs the class from Kafka's jars.
func (i *Installation) Tool(ctx context.Context, class string, arguments ...string) *exec.Cmd {
	return i.short(ctx, i.classPath(), class, arguments...)
}

func (i *Installation) short(ctx context.Context, classPath, class string, arguments ...string) *exec.Cmd {
	all := []string{
		"-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", classPath, class,
	}
	return exec.CommandContext(ctx, i.java, append(all, arguments...)...)
}

// Partitions returns the partition, of count, that Kafka's own Java producer
// gives to a record with each of the keys: its Utils.murmur2 computes them.
func (i *Installation) Partitions(ctx context.Context, keys [][]byte, count int32) ([]int32, error) {
	folder, err := os.MkdirTemp("", "barnabas-java-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for compiled Java: %w", err)
	}
	defer os.RemoveAll(folder)
	source := filepath.Join(folder, "Partitions.java")
	if err := os.WriteFile(source, partitionsSource, 0o600); err != nil {
		return nil, fmt.Errorf("write Java source: %w", err)
	}
	compile := i.Tool(ctx, "org.eclipse.jdt.internal.compiler.batch.Main",
		"--release", strconv.Itoa(lowestJava), "-classpath", filepath.Join(i.libs(), "kafka-clients-"+i.Version+".jar"), "-d", folder, source)
	if output, err := compile.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compile Partitions.java: %w\n%s", err, output)
	}
	run := i.short(ctx, folder+string(os.PathListSeparator)+i.classPath(), "Partitions", strconv.Itoa(int(count)))
	run.Stdin = bytes.NewReader(frames(keys))
	var complaint bytes.Buffer
	run.Stderr = &complaint
	output, err := run.Output()
	if err != nil {
		return nil, fmt.Errorf("run Partitions.java: %w\n%s", err, complaint.Bytes())
	}
	return parsePartitions(output, len(keys))
}

// frames puts the length of each key, four bytes big-endian, in front of it.
func frames(keys [][]byte) []byte {
	var all []byte
	for _, key := range keys {
		all = binary.BigEndian.AppendUint32(all, uint32(len(key)))
		all = append(all, key...)
	}
	return all
}

func parsePartitions(output []byte, want int) ([]int32, error) {
	fields := bytes.Fields(output)
	if len(fields) != want {
		return nil, fmt.Errorf("answer of Partitions.java: %d keys of %d", len(fields), want)
	}
	partitions := make([]int32, want)
	for i, field := range fields {
		p, err := strconv.ParseInt(string(field), 10, 32)
		if err != nil {
			return nil, fmt.Errorf("read the answer of Partitions.java: %w", err)
		}
		partitions[i] = int32(p)
	}
	return partitions, nil
}
