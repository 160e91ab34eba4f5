package producer

import (
	"errors"
	"fmt"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// verdict is what a delivery report's code means for the record.
type verdict int

const (
	// acknowledged: the broker has the record.
	acknowledged verdict = iota
	// outage: nothing is wrong with the record; it is kept, and produced again in order.
	outage
	// configuration: as outage, but it lasts until somebody changes something.
	configuration
	// replace: the instance can't go on; a new one produces everything unacknowledged again.
	replace
	// suspect: the record, or one that shared its batch, was refused. A report never
	// says which, so each suspect is sent alone, and only one that fails alone is refused.
	suspect
)

// codeInfo is one row of the verdict table.
type codeInfo struct {
	name    string // as in Kafka's protocol; librdkafka's own begin with an underscore
	verdict verdict
}

// verdictOf returns the verdict for a code. One that is not in the table is an
// outage: kept, tried again, shown.
func verdictOf(code kafka.ErrorCode) verdict {
	if info, known := lookUp(code); known {
		return info.verdict
	}
	return outage
}

// codeName returns the code's name in Kafka's protocol.
func codeName(code kafka.ErrorCode) string {
	if info, known := lookUp(code); known {
		return info.name
	}
	return fmt.Sprintf("UNKNOWN_%d", int(code))
}

// codeOf returns the code of a report's or a client's error.
func codeOf(err error) kafka.ErrorCode {
	var e kafka.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return kafka.ErrUnknown
}
