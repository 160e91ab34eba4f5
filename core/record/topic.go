package record

// maxTopic is the length of the longest name of a topic that Kafka takes.
const maxTopic = 249

// ValidTopic says whether Kafka allows a topic of that name: up to 249 letters,
// digits, '.', '_' and '-', and neither "." nor ".."
// (org.apache.kafka.common.internals.Topic).
func ValidTopic(name string) bool {
	if name == "" || name == "." || name == ".." || len(name) > maxTopic {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}
