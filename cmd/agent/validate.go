package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/spf13/cobra"

	"github.com/barnabas-agent/barnabas/core/config"
	"github.com/barnabas-agent/barnabas/core/metric"
	"github.com/barnabas-agent/barnabas/core/pluginhost"
	"github.com/barnabas-agent/barnabas/core/producer"
)

func newValidateCommand(s streams) *cobra.Command {
	var path string
	var connect bool
	c := &cobra.Command{
		Use:   "validate",
		Short: "Check the configuration, and every plugin's with the plugin; change nothing",
		Args:  arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			return validate(c.Context(), path, connect, s)
		},
	}
	c.Flags().StringVar(&path, "config", "", "configuration `file` or folder")
	c.Flags().BoolVar(&connect, "connect", false, "also ask the brokers for the topics")
	return c
}

func validate(ctx context.Context, path string, connect bool, s streams) error {
	c, err := loadConfig(path, config.Options{AllowMissingCredentials: true}, s.err)
	if err != nil {
		return err
	}
	host, err := openHost(slog.New(slog.DiscardHandler), metric.New(), "")
	if err != nil {
		return err
	}
	refused := checkStages(ctx, host, c)
	if err := host.Close(); err != nil {
		return err
	}
	for i := range c.Producers {
		p := producerConfig(&c.Producers[i])
		if err := p.Check(); err != nil {
			refused = append(refused, settingsRefused(&c.Producers[i], err))
			continue
		}
		if connect {
			refused = append(refused, connectProducer(ctx, c, &c.Producers[i], p)...)
		}
	}
	if err := show(refused, s.err); err != nil {
		return err
	}
	stages := 0
	for i := range c.Pipelines {
		stages += len(c.Pipelines[i].Stages())
	}
	_, err = fmt.Fprintf(s.out, "%s is valid: %s, %s, %s\n", printable(c.Path),
		count(len(c.Pipelines), "pipeline"), count(stages, "plugin"), count(len(c.Producers), "producer"))
	return err
}

// settingsRefused is what there is to say where librdkafka takes a producer's settings for wrong.
func settingsRefused(c *config.Producer, err error) config.Diagnostic {
	return c.Places.Block().Error(err.Error(), "librdkafka refuses the settings: correct them, or what `config` adds to them")
}

// checkStages has every plugin check its configuration, all at once, and
// returns what is wrong in the order of the configuration.
func checkStages(ctx context.Context, host *pluginhost.Host, c *config.Config) config.Diagnostics {
	var checking sync.WaitGroup
	var results []func() config.Diagnostics
	for i := range c.Pipelines {
		p := &c.Pipelines[i]
		for _, stage := range p.Stages() {
			var err error
			checking.Go(func() { err = host.Validate(ctx, pluginSpec(c, p, stage)) })
			results = append(results, func() config.Diagnostics {
				if err == nil {
					return nil
				}
				return pluginDiagnostics(p, stage, err)
			})
		}
	}
	checking.Wait()
	var refused config.Diagnostics
	for _, result := range results {
		refused = append(refused, result()...)
	}
	return refused
}

// connectProducer asks a producer's brokers for the topics of its pipelines.
func connectProducer(ctx context.Context, c *config.Config, block *config.Producer, p producer.Config) config.Diagnostics {
	var refused config.Diagnostics
	for i := range c.Pipelines {
		one := &c.Pipelines[i]
		if one.Producer != p.Name {
			continue
		}
		if err := p.FindTopic(ctx, one.Topic); err != nil {
			refused = append(refused, one.Places.At("topic").Error(
				fmt.Sprintf("producer %q can't reach topic %q: %v", p.Name, one.Topic, err),
				fmt.Sprintf("bootstrap_servers is %q", block.BootstrapServers)))
		}
	}
	return refused
}
