package producer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/barnabas-agent/barnabas/core/record"
)

// misfortune does one bad thing to the broker or the client, and ends it.
func misfortune(ctx context.Context, random *rand.Rand, b *broker, p *Producer) {
	span := time.Duration(random.IntN(150)) * time.Millisecond
	switch random.IntN(4) {
	case 0:
		b.gate.set(true)
		pause(ctx, span)
		b.gate.set(false)
	case 1:
		p.mainInstance().query(func(client *kafka.Producer) { client.TestFatalError(kafka.ErrUnknownProducerID, "a test") })
		pause(ctx, span)
	default:
		errs := []*kerr.Error{
			kerr.NotLeaderForPartition, kerr.NotEnoughReplicasAfterAppend, kerr.PolicyViolation,
			kerr.OutOfOrderSequenceNumber, kerr.TopicAuthorizationFailed, kerr.InvalidProducerEpoch,
		}
		fault := b.Fault(kfake.Fault{
			Keys: []kmsg.Key{kmsg.Produce}, Partitions: []int32{random.Int32N(3)},
			Err: errs[random.IntN(len(errs))], Count: 1 + random.IntN(3),
		})
		pause(ctx, span)
		fault.Remove()
	}
}

// Lanes of three pipelines, of which one is sync, send through one misfortune
// after the other, with poison among their records: nothing is missing, what
// should not be refused is not, and the first copies of each lane stand in order.
func TestEverythingIsDeliveredThroughMisfortune(t *testing.T) {
	const lanes, batches, partitions = 4, 40, 3
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	b := startBroker(t, kfake.SeedTopics(partitions, "t"))
	b.refuseBatches(kerr.InvalidRecord.Code, func(v string) bool { return len(v) > 0 && v[0] == '!' })
	var clients []*Client
	p := startProducer(t, testConfig(b), func(p *Producer) {
		async, slow := p.Client("one", Async), p.Client("three", Sync)
		clients = append(clients, async, async, p.Client("two", FireAndForget), slow)
	})
	want := make([][partitions][]string, lanes)
	var sending sync.WaitGroup
	for lane := range lanes {
		var made []*record.Batch
		number, rows := 0, 60
		if clients[lane].mode == Sync {
			rows = 3
		}
		for range batches {
			var all []row
			for range 1 + random.IntN(rows) {
				r := at(random.Int32N(partitions), fmt.Sprintf("lane%d-%06d", lane, number))
				number++
				if random.IntN(300) == 0 {
					r.value = append([]byte("!"), r.value...)
				} else {
					want[lane][r.partition] = append(want[lane][r.partition], string(r.value))
				}
				all = append(all, r)
			}
			made = append(made, newBatch("t", all...))
		}
		sending.Go(func() {
			var outcomes []*outcome
			for _, batch := range made {
				outcomes = append(outcomes, send(t, clients[lane], batch))
			}
			for n, o := range outcomes {
				o.wait()
				for row := range o.refused {
					if v := made[n].Value.Bytes(int(row)); v[0] != '!' {
						t.Errorf("%s is refused: %s", v, o.refused[row].Message)
					}
				}
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	sent := make(chan struct{})
	go func() { sending.Wait(); close(sent) }()
	for n := 0; n < 25; n++ {
		misfortune(ctx, random, b, p.Producer)
	}
	<-sent
	got := consume(t, b, "t")
	for lane := range lanes {
		for part := range int32(partitions) {
			mine := slices.DeleteFunc(firstCopies(values(got[part])), func(v string) bool { return v[:5] != fmt.Sprintf("lane%d", lane) })
			wantValues(t, fmt.Sprintf("lane %d, partition %d", lane, part), mine, want[lane][part])
		}
	}
	eventually(t, "the status is good again", func() bool { return len(p.Status().Problems) == 0 })
}
