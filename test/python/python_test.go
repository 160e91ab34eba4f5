package pythontest_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
	"github.com/barnabas-agent/barnabas/plugins/sdk/plugintest"
	pythontest "github.com/barnabas-agent/barnabas/test/python"
)

// TestConformance puts the examples through what the agent asks of every plugin.
func TestConformance(t *testing.T) {
	for name, config := range map[string]string{
		"barnabas-interceptor-shout": `{"whisper": "record 7"}`,
		"barnabas-serializer-hex":    `{"digits": "upper"}`,
		"barnabas-partitioner-crc32": `{"salt": "s"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plugin := pythontest.Install(t, filepath.Join(pythontest.Folder(t), "examples", name), t.TempDir())
			plugintest.RunProcess(t, plugin, config)
		})
	}
}

// TestGeneratedCodeIsOfTheProtocol compares the messages that Python has with
// those of Go, which are generated from the same file.
func TestGeneratedCodeIsOfTheProtocol(t *testing.T) {
	command := exec.CommandContext(t.Context(), pythontest.Require(t), "-B", "-c",
		"import sys; from barnabas_plugin import plugin_pb2; sys.stdout.buffer.write(plugin_pb2.DESCRIPTOR.serialized_pb)")
	command.Dir = pythontest.Folder(t)
	printed, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	got, want := &descriptorpb.FileDescriptorProto{}, protodesc.ToFileDescriptorProto(wirev1.File_plugin_proto)
	if err := proto.Unmarshal(printed, got); err != nil {
		t.Fatal(err)
	}
	got.Name = want.Name // each language registers it by its own
	for _, message := range want.MessageType {
		for _, field := range message.Field {
			field.JsonName = nil // Python leaves it out where it follows from the name
		}
	}
	if !proto.Equal(got, want) {
		t.Error("plugins/python/barnabas_plugin/plugin_pb2.py is not of core/wire/v1/plugin.proto: run plugins/python/generate.sh")
	}
}

// TestUnits runs the package's and the examples' own tests.
func TestUnits(t *testing.T) {
	interpreter, folder := pythontest.Require(t), pythontest.Folder(t)
	for _, tests := range []string{"tests", "examples"} {
		command := exec.CommandContext(t.Context(), interpreter, "-B", "-W", "error", "-m", "unittest", "discover", "--start-directory", tests)
		command.Dir = folder
		command.Env = append(os.Environ(), "PYTHONPATH="+folder)
		if printed, err := command.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", tests, err, printed)
		}
	}
}

// verdict is a test that only remembers how it was ended.
type verdict struct {
	testing.TB
	skipped, failed string
}

func (v *verdict) Helper() {}

func (v *verdict) Skipf(format string, arguments ...any) {
	v.skipped = fmt.Sprintf(format, arguments...)
	runtime.Goexit()
}

func (v *verdict) Fatalf(format string, arguments ...any) {
	v.failed = fmt.Sprintf(format, arguments...)
	runtime.Goexit()
}

func TestMissingPythonSkipsOrFails(t *testing.T) {
	require := func() *verdict {
		v := &verdict{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			pythontest.Require(v)
		}()
		<-done
		return v
	}
	t.Setenv("PATH", t.TempDir())
	t.Setenv(pythontest.RequireVariable, "")
	if v := require(); v.failed != "" || !strings.Contains(v.skipped, "NOT TESTED WITH PYTHON: python3 is missing") {
		t.Errorf("without %s=1: skipped %q, failed %q", pythontest.RequireVariable, v.skipped, v.failed)
	}
	t.Setenv(pythontest.RequireVariable, "1")
	if v := require(); v.skipped != "" || !strings.Contains(v.failed, "python3 is missing") {
		t.Errorf("with %s=1: skipped %q, failed %q", pythontest.RequireVariable, v.skipped, v.failed)
	}
}
