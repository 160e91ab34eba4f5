package broker

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
)

// Ports are picked below the range that the kernel gives to outgoing
// connections: there, a client that keeps trying a dead broker's port may be
// given that very port, connect to itself, and keep the broker from coming back.
const (
	lowestPort  = 12000
	highestPort = 32000
)

// clusterID is the same for all clusters; sixteen bytes in base64.
const clusterID = "QmFybmFiYXNUZXN0S2Fma2"

// address is where one broker listens.
type address struct {
	client     int // port for clients and other brokers
	controller int // port for controllers
}

// properties is the text of the server.properties of broker id, counted from 1.
func properties(id int, addresses []address, folder string, extra map[string]string) string {
	n := len(addresses)
	replicas, inSync := strconv.Itoa(n), strconv.Itoa(min(n, 2))
	voters := make([]string, n)
	for i, a := range addresses {
		voters[i] = fmt.Sprintf("%d@127.0.0.1:%d", i+1, a.controller)
	}
	own := addresses[id-1]
	all := map[string]string{
		"process.roles":                  "broker,controller",
		"node.id":                        strconv.Itoa(id),
		"controller.quorum.voters":       strings.Join(voters, ","),
		"listeners":                      fmt.Sprintf("PLAINTEXT://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d", own.client, own.controller),
		"controller.listener.names":      "CONTROLLER",
		"listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"inter.broker.listener.name":     "PLAINTEXT",
		"log.dirs":                       folder,
		"auto.create.topics.enable":      "false",

		"default.replication.factor":                       replicas,
		"min.insync.replicas":                              inSync,
		"offsets.topic.replication.factor":                 replicas,
		"offsets.topic.num.partitions":                     "4",
		"transaction.state.log.replication.factor":         replicas,
		"transaction.state.log.min.isr":                    inSync,
		"transaction.state.log.num.partitions":             "4",
		"share.coordinator.state.topic.replication.factor": replicas,
		"share.coordinator.state.topic.min.isr":            inSync,

		// Records may carry timestamps of any age and have to stay all the same.
		"log.retention.ms": "-1",
		// A killed broker is refused until the session of its former life ends.
		"broker.session.timeout.ms":        "5000",
		"broker.heartbeat.interval.ms":     "1000",
		"group.initial.rebalance.delay.ms": "0",
		"num.network.threads":              "2",
		"num.io.threads":                   "4",
	}
	maps.Copy(all, extra)
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&text, "%s=%s\n", name, all[name])
	}
	return text.String()
}

// freeAddresses finds two free ports for each of n brokers. Nothing holds them
// until the brokers do.
func freeAddresses(n int) ([]address, error) {
	addresses := make([]address, n)
	for i := range addresses {
		for _, port := range []*int{&addresses[i].client, &addresses[i].controller} {
			listener, err := listenAnywhere()
			if err != nil {
				return nil, err
			}
			defer listener.Close() // when all are found, so that none is found twice
			*port = listener.Addr().(*net.TCPAddr).Port
		}
	}
	return addresses, nil
}

func listenAnywhere() (net.Listener, error) {
	var err error
	for range 100 {
		port := lowestPort + rand.IntN(highestPort-lowestPort)
		var listener net.Listener
		if listener, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return listener, nil
		}
	}
	return nil, fmt.Errorf("find a free port on 127.0.0.1: %w", err)
}
