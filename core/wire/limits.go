package wire

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/barnabas-agent/barnabas/core/record"
)

// maxControlMessage bounds, in bytes, every message but batches and replies:
// an empty element of a list takes two bytes on the wire and up to forty times
// as much once it is decoded.
const maxControlMessage = 1 << 20

// path leads from a message into the messages in it, by field number.
type path []protowire.Number

// replyLists are the lists of a reply: failures, and the topics of topic.topic.
// Neither has more elements than a batch has records.
func replyLists() []path { return []path{{4}, {9, 2, 1}} }

// checkReplyLists refuses a reply whose lists are too long, before decoding
// makes an element of each.
func checkReplyLists(encoded []byte) error {
	for _, list := range replyLists() {
		n, err := countElements(encoded, list)
		if err != nil {
			return err
		}
		if n > record.MaxRows {
			return fmt.Errorf("reply: a list of %d elements in field %v, more than %d", n, list, record.MaxRows)
		}
	}
	return nil
}

// countElements returns how often the field at the end of a path occurs.
func countElements(encoded []byte, to path) (n int, err error) {
	for len(encoded) > 0 {
		number, kind, length := protowire.ConsumeTag(encoded)
		if length < 0 {
			return 0, protowire.ParseError(length)
		}
		encoded = encoded[length:]
		if length = protowire.ConsumeFieldValue(number, kind, encoded); length < 0 {
			return 0, protowire.ParseError(length)
		}
		value := encoded[:length]
		encoded = encoded[length:]
		if number != to[0] || kind != protowire.BytesType {
			continue
		}
		if len(to) == 1 {
			n++
			continue
		}
		inner, _ := protowire.ConsumeBytes(value)
		nested, err := countElements(inner, to[1:])
		if err != nil {
			return 0, err
		}
		n += nested
	}
	return n, nil
}
