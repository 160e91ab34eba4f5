package config

import (
	"math"
	"net"
	"os"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// Bounds that librdkafka sets to the properties behind these attributes.
const (
	minRequestSize = 1000
	maxRequestSize = 1_000_000_000
	maxBatchSize   = math.MaxInt32
	maxLinger      = 900 * time.Second
	maxMaxInFlight = 1_000_000
)

func defaultProducer() Producer {
	return Producer{
		Name:              DefaultProducer,
		BootstrapServers:  []string{"localhost:9092"},
		Acks:              AcksAll,
		EnableIdempotence: true,
		Retries:           math.MaxInt32,
		BufferMemory:      32 << 20,
		BatchSize:         1_000_000,
		Linger:            5 * time.Millisecond,
		Compression:       "none",
		MaxRequestSize:    1_000_000,
		MaxInFlight:       5,
		ClientID:          "barnabas",
	}
}

func (d *decoder) producer(b block) Producer {
	p := defaultProducer()
	if name := d.name("a producer", b); name != "" {
		p.Name = name
	}
	p.Places = d.block(b, schema{
		name: "producer",
		key:  "producer",
		attributes: map[string]attribute{
			"bootstrap_servers":  into(&p.BootstrapServers, some(listOf(brokerAddress))),
			"acks":               into(&p.Acks, oneOf(AcksAll, AcksLeader, AcksNone)),
			"enable_idempotence": into(&p.EnableIdempotence, boolean),
			"retries":            into(&p.Retries, integer(0, math.MaxInt32)),
			"delivery_timeout":   into(&p.DeliveryTimeout, duration(0, longestTime)),
			"buffer_memory":      into(&p.BufferMemory, size(1, 1<<40)),
			"batch_size":         into(&p.BatchSize, size(1, maxBatchSize)),
			"linger":             into(&p.Linger, duration(0, maxLinger)),
			"compression":        into(&p.Compression, oneOf("none", "gzip", "snappy", "lz4", "zstd")),
			"max_request_size":   into(&p.MaxRequestSize, size(minRequestSize, maxRequestSize)),
			"max_in_flight":      into(&p.MaxInFlight, integer(1, maxMaxInFlight)),
			"client_id":          into(&p.ClientID, nonEmpty),
			"config":             intoSecret(&p.Properties, d.properties(&p)),
		},
		blocks: map[string]nested{
			"tls":  {once: true, read: func(b block) { p.TLS = d.tls(b) }},
			"sasl": {once: true, read: func(b block) { p.SASL = d.sasl(b) }},
		},
	})
	d.checkProducer(&p)
	return p
}

func (d *decoder) tls(b block) *TLS {
	t := &TLS{}
	t.Places = d.block(b, schema{
		name: "tls",
		key:  "tls",
		attributes: map[string]attribute{
			"ca_file":      into(&t.CAFile, readableFile),
			"cert_file":    into(&t.CertFile, readableFile),
			"key_file":     into(&t.KeyFile, readableFile),
			"key_password": intoSecret(&t.KeyPassword, secret),
		},
		unread: d.options.IgnoreSecurity,
	})
	for _, pair := range [][2]string{{"cert_file", "key_file"}, {"key_file", "cert_file"}, {"key_password", "key_file"}} {
		if t.Places.Has(pair[0]) && !t.Places.Has(pair[1]) {
			d.missingAt(t.Places.At(pair[0]), "", "%s needs %s", pair[0], pair[1])
		}
	}
	return t
}

func (d *decoder) sasl(b block) *SASL {
	s := &SASL{}
	s.Places = d.block(b, schema{
		name: "sasl",
		key:  "sasl",
		attributes: map[string]attribute{
			"mechanism": into(&s.Mechanism, oneOf("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI")),
			"username":  intoSecret(&s.Username, secret),
			"password":  intoSecret(&s.Password, secret),
		},
		unread: d.options.IgnoreSecurity,
	})
	if !s.Places.Has("mechanism") {
		d.missingAt(s.Places.Block(), `write mechanism = "SCRAM-SHA-512"`, "sasl needs a mechanism")
	}
	switch s.Mechanism {
	case "GSSAPI":
		if !d.options.HasGSSAPI {
			d.errorAt(s.Places.At("mechanism"), "use SCRAM-SHA-512, or a build that is linked to a librdkafka with GSSAPI",
				"the librdkafka of this build lacks GSSAPI")
		}
	case "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512":
		for _, name := range []string{"username", "password"} {
			if !s.Places.Has(name) {
				d.missingAt(s.Places.Block(), "", "sasl with mechanism %s needs a %s", s.Mechanism, name)
			}
		}
	}
	return s
}

// checkProducer refuses what contradicts, and says which promise a weaker
// setting gives up.
func (d *decoder) checkProducer(p *Producer) {
	weaker := []struct {
		name, written string
		set           bool
		lost          string
	}{
		{"acks", `acks = "1"`, p.Acks == AcksLeader,
			"at least once: a record that counts as delivered is lost with the one broker that had it"},
		{"acks", `acks = "0"`, p.Acks == AcksNone,
			"at least once: a record counts as delivered when it is sent, whether or not a broker takes it"},
		{"retries", "retries = 0", p.Retries == 0,
			"order: a record that failed once is produced again behind later ones"},
		{"max_in_flight", "max_in_flight above 5", p.MaxInFlight > 5,
			"order: a retried request may arrive behind later ones"},
	}
	for _, w := range weaker {
		switch {
		case !w.set:
		case p.EnableIdempotence:
			d.errorAt(p.Places.At(w.name), "write enable_idempotence = false as well; it gives up "+w.lost, "%s needs enable_idempotence = false", w.written)
		default:
			d.warnAt(p.Places.At(w.name), "", "%s gives up %s", w.written, w.lost)
		}
	}
	if !p.EnableIdempotence {
		d.warnAt(p.Places.At("enable_idempotence"), "",
			"enable_idempotence = false gives up that a retry makes no duplicate, and with max_in_flight above 1 the order in a partition")
	}
	if p.DeliveryTimeout > 0 {
		d.warnAt(p.Places.At("delivery_timeout"), "",
			"delivery_timeout above 0 gives up order: a record that timed out is produced again behind later ones")
	}
	if p.DeliveryTimeout > 0 && p.DeliveryTimeout <= p.Linger {
		d.errorAt(p.Places.At("delivery_timeout"), "0s never gives a record up", "delivery_timeout must be longer than linger, which is %s", p.Linger)
	}
}

// name takes a block's label as the name of something; it becomes the value of
// a metric's label and the name of a folder.
func (d *decoder) name(what string, b block) string {
	label, place := b.label(0)
	if len(b.Labels) > 0 && !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`).MatchString(label) {
		d.errorAt(place, "up to 64 letters, digits, '.', '_' and '-', the first a letter or digit", "%s can't be the name of %s", quote(label), what)
	}
	return label
}

// brokerAddress takes host or host:port.
func brokerAddress(v value) (string, bool) {
	s, ok := nonEmpty(v)
	if !ok {
		return "", false
	}
	const form = `write "host:9092"; several brokers are several elements of the list`
	host, port := s, "9092"
	if strings.Contains(strings.TrimPrefix(s[strings.LastIndexByte(s, ']')+1:], "]"), ":") {
		var err error
		if host, port, err = net.SplitHostPort(s); err != nil {
			v.fail(form, "must be the address of a broker, not %s", quote(s))
			return "", false
		}
	}
	if host == "" || strings.ContainsAny(host, " \t\r\n,/@") || !isPort(port) || port == "0" {
		v.fail(form, "must be the address of a broker, not %s", quote(s))
		return "", false
	}
	return s, true
}

// readableFile takes the path of a file that can be read now.
func readableFile(v value) (string, bool) {
	name, ok := path(v)
	if !ok {
		return "", false
	}
	info, err := os.Stat(name)
	if err == nil && info.IsDir() {
		v.fail("", "is a folder: %s", quote(name))
		return "", false
	}
	if err == nil {
		var f *os.File
		if f, err = os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0); err == nil {
			_ = f.Close()
			return name, true
		}
	}
	v.fail("relative paths start at the configuration's folder, "+v.decoder.folder, "can't be read: %v", err)
	return "", false
}

// properties takes raw librdkafka properties and refuses those that would break
// a promise or have an attribute of their own.
func (d *decoder) properties(p *Producer) parser[map[string]Secret] {
	return func(v value) (map[string]Secret, bool) {
		places := v.membersOf()
		p.properties = places
		all, ok := stringsByName(v, places)
		for name, s := range all {
			if reason := refusedProperty(name, s.Reveal()); reason != "" {
				d.errorAt(places.at("/"+escapePointer(name), v.place), "", "property %s is refused: %s", quote(name), reason)
				ok = false
			}
		}
		return all, ok
	}
}

// stringsByName takes an object of strings, numbers and booleans as strings.
func stringsByName(v value, places members) (map[string]Secret, bool) {
	plain, marks := v.Unmark()
	if t := plain.Type(); !t.IsObjectType() && !t.IsMapType() {
		v.wrongType("an object", "write { name = value }")
		return nil, false
	}
	all, ok := map[string]Secret{}, true
	for name, member := range plain.AsValueMap() {
		e := v
		e.name = v.name + "[" + quote(name) + "]"
		e.place = places.at("/"+escapePointer(name), v.place)
		member, more := member.Unmark()
		if member.IsNull() {
			continue
		}
		e.Value = member
		converted, err := convert.Convert(member, cty.String)
		if err != nil {
			e.wrongType("a string", "")
			ok = false
			continue
		}
		s := NewSecret(converted.AsString())
		s.credential = len(marks)+len(more) > 0
		all[name] = s
	}
	return all, ok
}
