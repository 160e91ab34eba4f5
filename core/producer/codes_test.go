package producer

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// libraryCodes reads the names and C constants of all codes out of the library's source.
func libraryCodes(t *testing.T) map[string]string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/confluentinc/confluent-kafka-go/v2").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(strings.TrimSpace(string(dir)), "kafka", "generated_errors.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Names) != 1 || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, "Err") {
			return true
		}
		ast.Inspect(spec.Values[0], func(n ast.Node) bool {
			if c, ok := n.(*ast.SelectorExpr); ok {
				found[spec.Names[0].Name] = c.Sel.Name
			}
			return true
		})
		return false
	})
	if len(found) < 150 {
		t.Fatalf("only %d codes found in the library's source", len(found))
	}
	return found
}

// Every code of the library is in the table, under its name in Kafka's protocol.
func TestEveryCodeHasAVerdict(t *testing.T) {
	names := map[string]bool{}
	for _, info := range codes {
		names[info.name] = true
	}
	library := libraryCodes(t)
	for constant, c := range library {
		name := strings.TrimPrefix(strings.TrimPrefix(c, "RD_KAFKA_RESP_ERR_"), "RD_KAFKA_RESP_ERR")
		if strings.HasPrefix(c, "RD_KAFKA_RESP_ERR__") {
			name = strings.TrimPrefix(c, "RD_KAFKA_RESP_ERR_")
		}
		if !names[name] {
			t.Errorf("kafka.%s (%s) has no verdict", constant, name)
		}
		delete(names, name)
	}
	for name := range names {
		t.Errorf("the table holds %s, which the library doesn't", name)
	}
}

func TestVerdicts(t *testing.T) {
	classes := map[verdict][]kafka.ErrorCode{
		acknowledged: {kafka.ErrNoError},
		outage: {
			kafka.ErrMsgTimedOut, kafka.ErrTimedOut, kafka.ErrTimedOutQueue, kafka.ErrTransport, kafka.ErrAllBrokersDown,
			kafka.ErrPurgeQueue, kafka.ErrPurgeInflight, kafka.ErrState, kafka.ErrDestroy, kafka.ErrRequestTimedOut,
			kafka.ErrNotEnoughReplicas, kafka.ErrNotEnoughReplicasAfterAppend, kafka.ErrKafkaStorageError, kafka.ErrLeaderNotAvailable,
			kafka.ErrNotLeaderForPartition, kafka.ErrNetworkException, kafka.ErrThrottlingQuotaExceeded, kafka.ErrPolicyViolation,
			kafka.ErrInconsistent, kafka.ErrUnknown, kafka.ErrorCode(-4711), kafka.ErrorCode(4711),
		},
		configuration: {
			kafka.ErrUnknownTopicOrPart, kafka.ErrUnknownTopic, kafka.ErrUnknownPartition, kafka.ErrTopicAuthorizationFailed,
			kafka.ErrClusterAuthorizationFailed, kafka.ErrAuthentication, kafka.ErrSaslAuthenticationFailed, kafka.ErrUnsupportedSaslMechanism,
			kafka.ErrSsl, kafka.ErrInvalidRequiredAcks, kafka.ErrUnsupportedCompressionType, kafka.ErrInvalidArg,
		},
		replace: {
			kafka.ErrFatal, kafka.ErrOutOfOrderSequenceNumber, kafka.ErrUnknownProducerID, kafka.ErrInvalidProducerEpoch,
			kafka.ErrFenced, kafka.ErrGaplessGuarantee,
		},
		suspect: {
			kafka.ErrInvalidRecord, kafka.ErrInvalidTimestamp, kafka.ErrMsgSizeTooLarge, kafka.ErrRecordListTooLarge,
			kafka.ErrUnsupportedForMessageFormat, kafka.ErrInvalidDifferentRecord, kafka.ErrInvalidMsg, kafka.ErrInvalidMsgSize,
		},
	}
	for want, codes := range classes {
		for _, code := range codes {
			if got := verdictOf(code); got != want {
				t.Errorf("%s (%v) has verdict %d, want %d", codeName(code), code, got, want)
			}
		}
	}
	// Only these can make a record go into the quarantine.
	for code, info := range codes {
		if info.verdict == suspect && !slices.Contains(classes[suspect], code) {
			t.Errorf("%s is a suspect, which is not decided here", info.name)
		}
	}
}

func TestCodeOfAnErrorOfSomebodyElse(t *testing.T) {
	if got := codeOf(errReplaced); verdictOf(got) != outage {
		t.Errorf("verdict %d", verdictOf(got))
	}
	if got := codeOf(kafka.NewError(kafka.ErrInvalidRecord, "x", false)); got != kafka.ErrInvalidRecord {
		t.Errorf("code %v", got)
	}
	if got := codeName(kafka.ErrorCode(4711)); got != "UNKNOWN_4711" {
		t.Errorf("name %s", got)
	}
}
