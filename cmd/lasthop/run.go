package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"lasthop/report"
	"lasthop/routing/host"
	"lasthop/watcher"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

func (a *app) runCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "keep it so: follow every reload of NGINX and every change of the host",
		Long: `run does what apply does, and then keeps it so: it installs each configuration that
NGINX loads, follows links, addresses and gateways, and puts back what others delete.

It changes nothing while a configuration cannot be read, keeps the way of a removed
listener while old workers still serve its connections, and leaves all routes in place
when it ends: only ` + "`lasthop clear`" + ` removes them. SIGHUP reads its settings again.`,
		Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT,
				syscall.SIGTERM)
			defer stop()
			return a.run(ctx)
		},
	}
}

// run is the daemon's life: take the lock, listen, look, say that it is ready,
// follow, and leave everything in place.
func (a *app) run(ctx context.Context) error {
	if err := errors.Join(a.flags.formats("text"), a.flags.live("run")); err != nil {
		return err
	}
	k, err := a.open()
	if err != nil {
		return err
	}
	defer k.Close()
	d, err := a.newDaemon(k)
	if err != nil {
		return err
	}
	defer a.close(d.writer)
	debug.SetGCPercent(50) // memory is scarcer beside NGINX than the processor that collects it
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	d.reloads = hup
	return d.run(ctx)
}

// run follows until ctx ends or a task fails.
func (d *daemon) run(ctx context.Context) error {
	tasks, ctx := errgroup.WithContext(ctx)
	hostC, err := d.kernel.Subscribe(ctx, d.settings.policy.Numbers) // before the first read
	if err != nil {
		return needsRoot(nil, err)
	}
	local, err := d.app.listenLocal(d.kernel)
	if err != nil {
		return err
	}
	if d.settings.metrics != "" {
		l, err := listenMetrics(d.settings.metrics)
		if err != nil {
			local.Close()
			return err
		}
		tasks.Go(func() error { return serve(ctx, l, metricsHandler(d, d.times)) })
	}
	tasks.Go(func() error { return serve(ctx, local, localHandler(d, buildVersion().Lasthop)) })
	tasks.Go(func() error { return d.watcher.Run(ctx) })
	tasks.Go(func() error { return d.live(ctx, hostC) })
	return tasks.Wait()
}

func (a *app) newDaemon(k *host.Kernel) (*daemon, error) {
	s, err := a.flags.settings()
	if err != nil {
		return nil, err
	}
	w := watcher.Open(a.watch)
	d := &daemon{app: a, kernel: k, watcher: w, settings: s, agenda: agenda{},
		deleted: map[string]bool{}, requests: make(chan request), calls: make(chan func()),
		times: newReloadTimes(), notify: notify, followed: func(bool, time.Duration) {},
		log: slog.New(slog.NewTextHandler(a.ui.stderr,
			&slog.HandlerOptions{ReplaceAttr: plainTime}))}
	if d.writer, err = a.writer(k, d.log); err != nil {
		return nil, err
	}
	d.readSettingsText()
	for _, c := range s.confs {
		d.instances = append(d.instances, &instance{source: source{conf: c}})
	}
	d.public = report.Status{Started: time.Now(),
		Wrong: []string{"the first look is not done yet"}}
	return d, nil
}

// plainTime leaves the time out where journald has its own.
func plainTime(groups []string, attr slog.Attr) slog.Attr {
	if len(groups) == 0 && attr.Key == slog.TimeKey && os.Getenv("JOURNAL_STREAM") != "" {
		return slog.Attr{}
	}
	return attr
}

// live looks for the first time, says that all is ready, and follows.
func (d *daemon) live(ctx context.Context, hostC <-chan host.Event) error {
	now := time.Now()
	d.started = now
	d.because("start")
	d.findMasters()
	d.sync()
	d.prepare()
	d.log.Info("following NGINX and the host", "detector", d.watcher.Detector(),
		"configurations", len(d.instances), "listeners", len(d.public.Plan.Outcomes))
	d.notify(sd.SdNotifyReady)
	d.alive(now)
	d.agenda.by(doAudit, now.Add(jitter(auditEvery)))
	d.wholeAudit = now.Add(wholeAuditEvery)
	d.agenda.by(doMasters, now.Add(d.nextMasters(now)))
	err := d.loop(ctx, hostC)
	d.notify(sd.SdNotifyStopping)
	d.log.Info("ending; all routes stay in place")
	return err
}

// notify tells systemd; without it, nobody.
func notify(state string) { _, _ = sd.SdNotify(false, state) }

// alive tells the watchdog that the loop goes round.
func (d *daemon) alive(now time.Time) {
	every, err := sd.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		return
	}
	d.notify(sd.SdNotifyWatchdog)
	d.agenda.by(doAlive, now.Add(every/3))
}

// reloadSettings reads lasthop.yaml again. A broken one changes nothing.
func (d *daemon) reloadSettings() {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	d.notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", sd.SdNotifyReloading, now.Nano()/1000))
	defer d.notify(sd.SdNotifyReady)
	s, err := d.app.flags.settings()
	if err != nil {
		d.trouble("settings", fmt.Errorf("the settings stay as they were: %w", err))
		d.publish()
		return
	}
	d.fine("settings")
	if s.metrics != d.settings.metrics || s.policy.Numbers != d.settings.policy.Numbers {
		d.log.Warn("numbers and metrics change with a restart: systemctl restart lasthop")
		s.metrics, s.policy.Numbers = d.settings.metrics, d.settings.policy.Numbers
	}
	d.settings = s
	d.readSettingsText()
	d.because("settings read again")
	d.follow(s.confs)
	d.sync()
	d.prepare()
}

func (d *daemon) readSettingsText() {
	d.settingsText = ""
	if d.settings.file != "" {
		data, _ := os.ReadFile(d.settings.file)
		d.settingsText = string(data)
	}
}

func (d *daemon) settingsDir() string { return filepath.Dir(d.settings.file) }

// follow makes the named configurations those that are followed; none named is
// whatever runs.
func (d *daemon) follow(confs []string) {
	var keep []*instance
	for _, c := range confs {
		i := &instance{source: source{conf: c}}
		for _, old := range d.instances {
			if old.conf == c && old.root == "" {
				i = old
			}
		}
		keep = append(keep, i)
	}
	if len(confs) > 0 {
		d.instances = keep
	}
	d.findMasters()
}
