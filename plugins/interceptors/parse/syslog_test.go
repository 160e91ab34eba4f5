package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	syslog "github.com/leodido/go-syslog/v4"
	"github.com/leodido/go-syslog/v4/rfc5424"

	"github.com/barnabas-agent/barnabas/plugins/object"
)

// received is when the lines of these tests were read.
func received() int64 { return time.Date(2026, 11, 27, 16, 30, 0, 0, time.UTC).UnixMilli() }

// TestLinesOfTheField holds lines as programs and devices write them.
func TestLinesOfTheField(t *testing.T) {
	p := configured(t, settings{Format: "syslog", Timezone: "Europe/Berlin"})
	for _, c := range []struct{ from, line, want string }{
		{"RFC 5424, example 1", `<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - ` + "\ufeff'su root' failed for lonvick on /dev/pts/8",
			`{"facility":4,"facility_name":"auth","severity":2,"severity_name":"crit","version":1,"timestamp":"2003-10-11T22:14:15.003Z","hostname":"mymachine.example.com","appname":"su","msgid":"ID47","message":"'su root' failed for lonvick on /dev/pts/8"}`},
		{"RFC 5424, example 2", `<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time to make the do-nuts.`,
			`{"facility":20,"facility_name":"local4","severity":5,"severity_name":"notice","version":1,"timestamp":"2003-08-24T12:14:15.000003Z","hostname":"192.0.2.1","appname":"myproc","procid":"8710","message":"%% It's time to make the do-nuts."}`},
		{"RFC 5424, example 4", `<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"][examplePriority@32473 class="high"]`,
			`{"facility":20,"facility_name":"local4","severity":5,"severity_name":"notice","version":1,"timestamp":"2003-10-11T22:14:15.003Z","hostname":"mymachine.example.com","appname":"evntslog","msgid":"ID47","structured_data":{"exampleSDID@32473":{"iut":"3","eventSource":"Application","eventID":"1011"},"examplePriority@32473":{"class":"high"}},"message":""}`},
		{"RFC 5424, escapes, a repeated parameter, a bare bracket", `<13>1 - - - - - [a@1 q="say \"hi\"" b="c:\\d\e" r="x\]y]z" ip="192.0.2.1" ip="192.0.2.129" none=""] m`,
			`{"facility":1,"facility_name":"user","severity":5,"severity_name":"notice","version":1,"structured_data":{"a@1":{"q":"say \"hi\"","b":"c:\\d\\e","r":"x]y]z","ip":["192.0.2.1","192.0.2.129"],"none":""}},"message":"m"}`},
		{"util-linux logger --rfc5424", `<13>1 2026-11-27T17:29:09.428731+01:00 web-1 root - - [timeQuality tzKnown="1" isSynced="1" syncAccuracy="331500"] hello`,
			`{"facility":1,"facility_name":"user","severity":5,"severity_name":"notice","version":1,"timestamp":"2026-11-27T16:29:09.428731Z","hostname":"web-1","appname":"root","structured_data":{"timeQuality":{"tzKnown":"1","isSynced":"1","syncAccuracy":"331500"}},"message":"hello"}`},
		{"Heroku's router, without structured data", `<40>1 2012-11-30T06:45:29+00:00 host app web.3 - State changed from starting to up`,
			`{"facility":5,"facility_name":"syslog","severity":0,"severity_name":"emerg","version":1,"timestamp":"2012-11-30T06:45:29Z","hostname":"host","appname":"app","procid":"web.3","message":"State changed from starting to up"}`},
		{"RFC 3164, example 1", `<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8`,
			`{"facility":4,"facility_name":"auth","severity":2,"severity_name":"crit","timestamp":"2026-10-11T20:14:15Z","hostname":"mymachine","appname":"su","message":"'su root' failed for lonvick on /dev/pts/8"}`},
		{"RFC 3164, example 2, after a relay", `<13>Feb  5 17:32:18 10.0.0.99 Use the BFG!`,
			`{"facility":1,"facility_name":"user","severity":5,"severity_name":"notice","timestamp":"2027-02-05T16:32:18Z","hostname":"10.0.0.99","message":"Use the BFG!"}`},
		{"rsyslog, RSYSLOG_ForwardFormat", `<38>2026-11-27T17:29:09.428731+01:00 web-1 sshd[4242]: Accepted publickey for alice`,
			`{"facility":4,"facility_name":"auth","severity":6,"severity_name":"info","timestamp":"2026-11-27T16:29:09.428731Z","hostname":"web-1","appname":"sshd","procid":"4242","message":"Accepted publickey for alice"}`},
		{"rsyslog, a file in the traditional format", `Nov 27 17:29:09 web-1 CRON[77]: (root) CMD (run-parts /etc/cron.hourly)`,
			`{"timestamp":"2026-11-27T16:29:09Z","hostname":"web-1","appname":"CRON","procid":"77","message":"(root) CMD (run-parts /etc/cron.hourly)"}`},
		{"logger and libc, to the unix socket", "<13>Nov 27 17:29:09 root: hello\n",
			`{"facility":1,"facility_name":"user","severity":5,"severity_name":"notice","timestamp":"2026-11-27T16:29:09Z","appname":"root","message":"hello"}`},
		{"libc, LOG_PID", `<86>Nov 27 17:29:09 su[91]: pam_unix(su:session): session opened`,
			`{"facility":10,"facility_name":"authpriv","severity":6,"severity_name":"info","timestamp":"2026-11-27T16:29:09Z","appname":"su","procid":"91","message":"pam_unix(su:session): session opened"}`},
		{"the kernel", `<4>Nov 27 17:29:09 web-1 kernel: [12345.678] TCP: out of memory`,
			`{"facility":0,"facility_name":"kern","severity":4,"severity_name":"warning","timestamp":"2026-11-27T16:29:09Z","hostname":"web-1","appname":"kernel","message":"[12345.678] TCP: out of memory"}`},
		{"postfix over IPv6", `<22>Nov 27 17:29:09 2001:db8::25 postfix/smtpd[1]: connect`,
			`{"facility":2,"facility_name":"mail","severity":6,"severity_name":"info","timestamp":"2026-11-27T16:29:09Z","hostname":"2001:db8::25","appname":"postfix/smtpd","procid":"1","message":"connect"}`},
		{"syslogd", `<46>Nov 27 17:29:09 web-1 last message repeated 3 times`,
			`{"facility":5,"facility_name":"syslog","severity":6,"severity_name":"info","timestamp":"2026-11-27T16:29:09Z","hostname":"web-1","message":"last message repeated 3 times"}`},
		{"AIX", `<13>Nov 27 17:29:09 Message forwarded from aix1: su: BAD SU`,
			`{"facility":1,"facility_name":"user","severity":5,"severity_name":"notice","timestamp":"2026-11-27T16:29:09Z","hostname":"aix1","appname":"su","message":"BAD SU"}`},
		{"ArcSight", `<134>Nov 27 17:29:09 fw CEF:0|Vendor|Product|1|100|Name|5|src=10.0.0.1`,
			`{"facility":16,"facility_name":"local0","severity":6,"severity_name":"info","timestamp":"2026-11-27T16:29:09Z","hostname":"fw","message":"CEF:0|Vendor|Product|1|100|Name|5|src=10.0.0.1"}`},
		{"Python's SysLogHandler", "<14>disk is full\x00",
			`{"facility":1,"facility_name":"user","severity":6,"severity_name":"info","message":"disk is full"}`},
		{"Python's SysLogHandler with ident", "<14>backup: disk is full\x00",
			`{"facility":1,"facility_name":"user","severity":6,"severity_name":"info","appname":"backup","message":"disk is full"}`},
		{"Cisco IOS", `<189>237: 000104: *Jan  8 19:46:03.295: %SYS-5-CONFIG_I: Configured from console`,
			`{"facility":23,"facility_name":"local7","severity":5,"severity_name":"notice","timestamp":"2027-01-08T18:46:03.295Z","appname":"%SYS-5-CONFIG_I","message_counter":"237","sequence":"000104","message":"Configured from console"}`},
		{"Cisco IOS, origin-id hostname", `<189>237: router-1: 000104: .Nov 27 17:29:09.295 CET: %LINK-3-UPDOWN: Interface up`,
			`{"facility":23,"facility_name":"local7","severity":5,"severity_name":"notice","timestamp":"2026-11-27T16:29:09.295Z","hostname":"router-1","appname":"%LINK-3-UPDOWN","message_counter":"237","sequence":"000104","message":"Interface up"}`},
		{"Cisco IOS with year and zone", `<187>88: Mar  1 2026 18:46:11.123 UTC: %SYS-3-X: y`,
			`{"facility":23,"facility_name":"local7","severity":3,"severity_name":"err","timestamp":"2026-03-01T18:46:11.123Z","appname":"%SYS-3-X","message_counter":"88","message":"y"}`},
		{"Cisco NX-OS", `<189>: 2026 Feb 28 11:37:33 UTC: %ETHPORT-5-IF_UP: Interface up`,
			`{"facility":23,"facility_name":"local7","severity":5,"severity_name":"notice","timestamp":"2026-02-28T11:37:33Z","appname":"%ETHPORT-5-IF_UP","message":"Interface up"}`},
		{"Cisco ASA", `<166>Oct 10 2018 12:34:56 asa-1 : %ASA-6-106015: Deny TCP (no connection)`,
			`{"facility":20,"facility_name":"local4","severity":6,"severity_name":"info","timestamp":"2018-10-10T10:34:56Z","hostname":"asa-1","appname":"%ASA-6-106015","message":"Deny TCP (no connection)"}`},
		{"Cisco ASA without host", `<166>Oct 10 2018 12:34:56: %ASA-6-106015: Deny TCP`,
			`{"facility":20,"facility_name":"local4","severity":6,"severity_name":"info","timestamp":"2018-10-10T10:34:56Z","appname":"%ASA-6-106015","message":"Deny TCP"}`},
		{"a year behind the time", `<13>Oct 10 12:34:56 2018 web-1 app: m`,
			`{"facility":1,"facility_name":"user","severity":5,"severity_name":"notice","timestamp":"2018-10-10T10:34:56Z","hostname":"web-1","appname":"app","message":"m"}`},
		{"ISO 8601 with space, comma and no zone", `<13>2026-11-27 17:29:09,5 web-1 app: m`,
			`{"facility":1,"facility_name":"user","severity":5,"severity_name":"notice","timestamp":"2026-11-27T16:29:09.5Z","hostname":"web-1","appname":"app","message":"m"}`},
		{"an offset without colon", `<13>2026-11-27T17:29:09+0100 web-1 app: m`,
			`{"facility":1,"facility_name":"user","severity":5,"severity_name":"notice","timestamp":"2026-11-27T16:29:09Z","hostname":"web-1","appname":"app","message":"m"}`},
		{"a tag in capitals is no zone", `<13>Nov 27 17:29:09 CRON: m`,
			`{"facility":1,"facility_name":"user","severity":5,"severity_name":"notice","timestamp":"2026-11-27T16:29:09Z","appname":"CRON","message":"m"}`},
		{"summer time", `<13>Jul  1 12:00:00 web-1 a: m`,
			`{"facility":1,"facility_name":"user","severity":5,"severity_name":"notice","timestamp":"2026-07-01T10:00:00Z","hostname":"web-1","appname":"a","message":"m"}`},
		{"a day that there is not", `<13>Nov 31 12:00:00 web-1 a: m`,
			`{"facility":1,"facility_name":"user","severity":5,"severity_name":"notice","message":"Nov 31 12:00:00 web-1 a: m"}`},
		{"spaces behind the priority", `<13> Nov 27 17:29:09  web-1  a: m`,
			`{"facility":1,"facility_name":"user","severity":5,"severity_name":"notice","timestamp":"2026-11-27T16:29:09Z","hostname":"web-1","appname":"a","message":"m"}`},
		{"UTF-8 without BOM, tabs, control characters", "<13>Nov 27 17:29:09 w a: caf\u00e9\t\x1b[0m",
			`{"facility":1,"facility_name":"user","severity":5,"severity_name":"notice","timestamp":"2026-11-27T16:29:09Z","hostname":"w","appname":"a","message":"caf\u00e9\t\u001b[0m"}`},
		{"a leap second", `<13>1 2016-12-31T23:59:60Z - - - - -`,
			`{"facility":1,"facility_name":"user","severity":5,"severity_name":"notice","version":1,"timestamp":"2017-01-01T00:00:00Z","message":""}`},
		{"nothing but a priority", `<0>`, `{"facility":0,"facility_name":"kern","severity":0,"severity_name":"emerg","message":""}`},
		{"a number at the message's beginning", `<13>1 file not found`,
			`{"facility":1,"facility_name":"user","severity":5,"severity_name":"notice","message":"1 file not found"}`},
	} {
		got, err := parseOne(t, p, c.line, received())
		if err != nil {
			t.Errorf("%s: %q: %v", c.from, c.line, err)
		} else if !sameJSON(t, got, c.want) {
			t.Errorf("%s: %q\n got %s\nwant %s", c.from, c.line, got, c.want)
		}
	}
}

func TestWhatIsNoSyslog(t *testing.T) {
	p := configured(t, settings{Format: "syslog", Timezone: "Europe/Berlin"})
	for line, want := range map[string]string{
		``:                                       "neither a priority nor a timestamp",
		`plain text`:                             "neither a priority nor a timestamp",
		`<192>x`:                                 "no priority from <0> to <191>",
		`<>x`:                                    "no priority",
		`<1`:                                     "no priority",
		`<0013>x`:                                "no priority",
		`<13>1 2026-11-27T17:29:09Z`:             "no TIMESTAMP at byte 6",
		`<13>1 2026-11-27T17:29:09Z host app`:    "no APP-NAME at byte 32",
		`<13>1 2026-11-27T25:29:09Z h a - - - m`: "no RFC 3339 TIMESTAMP",
		`<13>1 2026-11-27T17:29:09Z h a - - [x m`:             "the structured data element at byte 35 has a parameter without name or quoted value",
		`<13>1 2026-11-27T17:29:09Z h a - - [x a="`:           "has a value that does not end",
		`<13>1 2026-11-27T17:29:09Z h a - - [x`:               "does not end",
		`<13>1 2026-11-27T17:29:09Z h a - - [ a="1"] m`:       "has no id",
		`<13>1 2026-11-27T17:29:09Z h a - - [x a="1"b="2"] m`: "has no space before a parameter",
		`<13>1 2026-11-27T17:29:09Z h a - - [x][x] m`:         "the structured data element at byte 38 repeats the id of another",
		`<13>1 2026-11-27T17:29:09Z h a - - [x]m`:             "no space behind the structured data, at byte 38",
		`<189>1: Nov 27 17:29:09 PDT: %A-1-B: m`:              "time zone is none of the configured one's",
		"<13>caf\xe9":                                         "byte 7 is not UTF-8",
	} {
		got, err := parseOne(t, p, line, received())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %s, %v; want %q", line, got, err, want)
		}
	}
}

func TestTheYearIsTheNearest(t *testing.T) {
	at := func(text string) time.Time {
		parsed, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	for _, c := range []struct{ received, stamp, want string }{
		{"2027-01-01T00:00:05Z", "Dec 31 23:59:59", "2026-12-31T23:59:59Z"},
		{"2026-12-31T23:59:59Z", "Jan  1 00:00:05", "2027-01-01T00:00:05Z"},
		{"2026-06-30T12:00:00Z", "Jan  1 00:00:00", "2026-01-01T00:00:00Z"},
		{"2026-03-01T12:00:00Z", "Feb 29 00:00:00", "2028-02-29T00:00:00Z"},
		{"2025-02-01T12:00:00Z", "Feb 29 00:00:00", "2024-02-29T00:00:00Z"},
		{"2100-03-01T12:00:00Z", "Feb 29 00:00:00", "2104-02-29T00:00:00Z"},
		{"1970-01-01T00:00:00Z", "Dec 31 00:00:00", "1969-12-31T00:00:00Z"},
	} {
		got, found, err := clock{zone: time.UTC, received: at(c.received)}.parse([]byte(c.stamp))
		if err != nil || !found || !got.time.Equal(at(c.want)) {
			t.Errorf("%s at %s: %v, %v, %v; want %s", c.stamp, c.received, got.time, found, err, c.want)
		}
	}
}

// FuzzSyslog: no line stops the plugin, and each becomes one well-formed object or a reason.
func FuzzSyslog(f *testing.F) {
	for _, seed := range []string{
		`<165>1 2003-10-11T22:14:15.003Z h a 1 m [x@1 a="\"" a="2"][y] ` + "\ufefftext",
		`<34>Oct 11 22:14:15 mymachine su[1]: text`, `<189>237: r: 000104: *Jan  8 19:46:03.295 UTC: %A: b`,
		`<13>2026-11-27 17:29:09,5+01:00 h a: m`, `<166>Oct 10 2018 12:34:56 host : %ASA: x`, `<13>Feb 29 00:00:00 x`,
		"<13>\x00", `<`, `<1>1 - - - - - [`, `Oct 11 22:14:15`, `<13>1 9999-12-31T23:59:59-23:59 - - - - -`, `<13>Message forwarded from a: b`,
	} {
		f.Add([]byte(seed), int64(1_795_796_949_000))
	}
	f.Fuzz(func(t *testing.T, line []byte, received int64) {
		before := string(line)
		p := syslogParser{zone: time.UTC}
		encoded, err := p.parse(nil, line, received)
		if string(line) != before {
			t.Fatal("the line was changed")
		}
		if err != nil {
			return
		}
		decoded, err := object.Decode(encoded)
		if err != nil {
			t.Fatalf("%q becomes what is no object: %v", line, err)
		}
		m := decoded.(map[string]any)
		text, ok := m["message"].(string)
		if !ok || !strings.Contains(before, text) {
			t.Fatalf("%q: the message %q does not stand in it", line, m["message"])
		}
		if stamp, ok := m["timestamp"].(string); ok {
			if _, err := time.Parse(time.RFC3339Nano, stamp); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
		}
	})
}

// FuzzRFC5424 holds the parser against one that others keep: what that takes, under RFC 5424's
// grammar, is taken here too, and means the same.
func FuzzRFC5424(f *testing.F) {
	for _, seed := range []string{
		`<165>1 2003-10-11T22:14:15.003Z host app 12 ID47 [x@1 iut="3" e="a\"b\\c\]d\e"][y@2] text`,
		`<0>999 - - - - - -`, `<191>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 a - - - ` + "\ufefftext",
		`<13>1 2016-02-29T00:00:00+23:59 h a - - [a b="1" b="2"] [x] y`, `<13>1 - - - - - [a] `, "<13>1 - - - - - - a\nb\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		reference, err := rfc5424.NewParser().Parse(line)
		if err != nil || invalidUTF8(line) >= 0 {
			return
		}
		want := reference.(*rfc5424.SyslogMessage)
		p := syslogParser{zone: time.UTC}
		if _, err := p.parse(nil, line, 0); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		comparePart(t, "hostname", p.m.hostname, want.Hostname)
		comparePart(t, "appname", p.m.appname, want.Appname)
		comparePart(t, "procid", p.m.procid, want.ProcID)
		comparePart(t, "msgid", p.m.msgid, want.MsgID)
		if p.m.priority != int(*want.Priority) || p.m.version != int(want.Version) {
			t.Fatalf("%q: priority %d, version %d", line, p.m.priority, p.m.version)
		}
		if want.Timestamp != nil != p.m.timed || want.Timestamp != nil && !p.m.time.Equal(*want.Timestamp) {
			t.Fatalf("%q: time %v, want %v", line, p.m.time, want.Timestamp)
		}
		compareStructured(t, p.m.structured, want)
		compareText(t, p.m.text, want.Base)
	})
}

func comparePart(t *testing.T, name string, got []byte, want *string) {
	t.Helper()
	if (got != nil) != (want != nil) || want != nil && *want != string(got) {
		t.Fatalf("%s %q, want %v", name, got, want)
	}
}

func compareStructured(t *testing.T, encoded []byte, want *rfc5424.SyslogMessage) {
	t.Helper()
	if want.StructuredData == nil {
		if encoded != nil {
			t.Fatalf("structured data %x, want none", encoded)
		}
		return
	}
	decoded, err := object.Decode(encoded)
	if err != nil {
		t.Fatal(err)
	}
	got := decoded.(map[string]any)
	if len(got) != len(*want.StructuredData) {
		t.Fatalf("structured data %v, want %v", got, *want.StructuredData)
	}
	for id, params := range *want.StructuredData {
		for name, value := range params { // of those that are repeated the other parser keeps the last
			one := got[id].(map[string]any)[name]
			if all, ok := one.([]any); ok {
				one = all[len(all)-1]
			}
			if one != value {
				t.Fatalf("%s %s: %q, want %q", id, name, one, value)
			}
		}
	}
}

func compareText(t *testing.T, got []byte, want syslog.Base) {
	t.Helper()
	text := ""
	if want.Message != nil {
		text = *want.Message
	}
	text = strings.TrimPrefix(strings.TrimRight(text, "\r\n\x00"), "\ufeff")
	if !bytes.Equal(got, []byte(text)) {
		t.Fatalf("message %q, want %q", got, text)
	}
}
