// Package devbroker_test runs librdkafka, which the agent produces with,
// against the embedded broker.
package devbroker_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/barnabas-agent/barnabas/core/devbroker"
)

const records = 2000

// An idempotent producer with acks from all fills a topic that does not exist
// yet; after a restart another goes on, and every record is there once.
func TestLibrdkafkaProducesAcrossARestart(t *testing.T) {
	dir := t.TempDir()
	want := map[string]bool{}
	for run := range 2 {
		b, err := devbroker.Start(devbroker.Config{Dir: dir}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		produce(t, b.Address(), run)
		for i := range records {
			want[fmt.Sprintf("%d-%d", run, i)] = true
		}
		if run == 1 {
			check(t, b.Address(), want)
		}
		b.Close()
	}
}

func produce(t *testing.T, address string, run int) {
	t.Helper()
	producer, err := kafka.NewProducer(&kafka.ConfigMap{
		"bootstrap.servers": address, "enable.idempotence": true, "compression.type": "lz4",
	})
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	topic := "access"
	reports := make(chan kafka.Event, records)
	for i := range records {
		message := &kafka.Message{
			TopicPartition: kafka.TopicPartition{Topic: &topic, Partition: kafka.PartitionAny},
			Value:          fmt.Appendf(nil, "%d-%d", run, i),
		}
		if err := producer.Produce(message, reports); err != nil {
			t.Fatal(err)
		}
	}
	for range records {
		if report := (<-reports).(*kafka.Message); report.TopicPartition.Error != nil {
			t.Fatal(report.TopicPartition.Error)
		}
	}
}

func check(t *testing.T, address string, want map[string]bool) {
	t.Helper()
	consumer, err := kafka.NewConsumer(&kafka.ConfigMap{
		"bootstrap.servers": address, "group.id": "check", "auto.offset.reset": "earliest",
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := consumer.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := consumer.SubscribeTopics([]string{"access"}, nil); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for range len(want) {
		message, err := consumer.ReadMessage(30 * time.Second)
		if err != nil {
			t.Fatalf("after %d of %d records: %v", len(seen), len(want), err)
		}
		seen[string(message.Value)]++
	}
	for value := range want {
		if seen[value] != 1 {
			t.Fatalf("record %s is there %d times", value, seen[value])
		}
	}
}
