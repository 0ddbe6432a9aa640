// Package daemon is `lasthop run`: it keeps the kernel as the plan wants it,
// follows every load of NGINX and every change of the host, and publishes its
// status.
//
// One goroutine, the loop, does everything, one thing after the other. It waits
// only for the kernel. Each part has one job, and the arrows point one way:
//
//	daemon      takes events, requests, signals and what is due
//	fleet       what each NGINX has loaded, and what is on disk
//	reconciler  read, decide, compare, write, read back
//	healer      puts back what other programs delete, and backs off from fights
//	routers     which routers are dead, for paths with the mode last-hop
//	plusAPI     whether NGINX Plus counts the loads that the daemon saw
//	board       the status for clients, and their requests
//	agenda      what to do when
//	troubles    what is wrong now
//	notices     which findings the log has reported
//
// Events only say "look again": each sync reads the host and computes the whole
// wanted state. The daemon prepares a decision whenever files change. A fork of
// NGINX is handled in this order. The watcher sees that a master has new
// workers and sends Reloaded. The fleet returns what NGINX listens on with the
// files on disk (part, listening). If the prepared decision Holds for that and
// for the host as it was read last, the reconciler immediately writes what the
// decision adds (anticipate): it parses and reads nothing. The fleet then
// records the load (load), and a sync reads, decides, removes what is left
// over, and reads back.
package daemon

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"lasthop/internal/hint"
	"lasthop/internal/journal"
	"lasthop/internal/settings"
	"lasthop/internal/writer"
	"lasthop/routing/flow/lasthop"
	"lasthop/routing/host"
	"lasthop/watcher"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Options say where to run, and with which settings.
type Options struct {
	Kernel *host.Kernel // of the network namespace; the caller closes it
	// the programs that Kernel has for the mode last-hop; nil: none
	LastHop *lasthop.Control
	NetNS   string // the namespace as the user named it, "" for the process's own
	RunDir  string // of the lock and the socket
	Flags   settings.Flags
	Log     io.Writer
	Journal journal.Place // of log lines; the zero value is Log as it is

	// For tests. The zero values are for a host.
	Watch  watcher.Options
	Names  string   // the directory of names of tables
	Syslog []string // the sockets of the system's log
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
}

// daemon is the loop with its parts.
type daemon struct {
	// Set at the start.
	options Options
	watcher *watcher.Watcher
	writer  *writer.Writer
	log     *journal.Log

	// The parts. They belong to the loop, except for the board.
	agenda     agenda
	troubles   *troubles
	notices    notices
	fleet      *fleet
	reconciler *reconciler
	routers    *routers
	board      *board

	// Owned by the loop.
	pace   pace   // of looks at the host
	causes causes // of the next sync

	// Inputs besides what watcher, kernel and board send.
	reloads chan os.Signal // SIGHUP
	calls   chan func()    // of tasks and tests: run in the loop
}

// Run follows NGINX and the host until ctx ends, and leaves everything in
// place. It returns writer.ErrLocked if another lasthop writes in the network
// namespace.
func Run(ctx context.Context, o Options) error {
	d, err := open(o)
	if err != nil {
		return err
	}
	debug.SetGCPercent(50) // memory is scarcer than processor time
	heedMemory()
	// a log without a reader, or on a full disk, loses lines
	signal.Ignore(syscall.SIGPIPE, syscall.SIGXFSZ)
	signal.Notify(d.reloads, syscall.SIGHUP)
	defer signal.Stop(d.reloads)
	defer d.close()
	return d.run(ctx)
}

// close releases the lock.
func (d *daemon) close() {
	if err := d.writer.Close(); err != nil {
		d.log.Warn(err.Error())
	}
	d.log.Close()
}

// open takes the lock and prepares the parts.
func open(o Options) (*daemon, error) {
	s, err := settings.Load(o.Flags)
	if err != nil {
		return nil, err
	}
	if o.Names == "" && o.NetNS == "" {
		o.Names = writer.NamesDir // the tables of this machine's own namespace
	}
	lines := journal.Open(o.Journal, journal.Text{Writer: newEasyLog(o.Log, o.Journal)})
	log := lines.Logger
	out, err := writer.Open(o.Kernel, writer.Options{RunDir: o.RunDir,
		Inode: o.Kernel.Inode(), Names: o.Names, Log: log, Syslog: o.Syslog,
		Audited: lines.Journal(), Patient: true})
	if err != nil {
		lines.Close()
		return nil, err
	}
	w := watcher.Open(o.Watch)
	d := &daemon{options: o, watcher: w, writer: out, log: lines, agenda: agenda{},
		troubles: &troubles{log: log}, board: newBoard(), reloads: make(chan os.Signal, 1),
		calls: make(chan func())}
	d.pace.agenda = d.agenda
	d.notices = notices{log, d.agenda, map[notice]*told{}}
	d.fleet = &fleet{netns: o.NetNS, watcher: w, log: log, troubles: d.troubles,
		names: newNames(o.Lookup), plus: newPlusAPI(d.agenda), kernel: o.Kernel}
	d.fleet.reader = reader{names: d.fleet.names, late: make(chan *instance)}
	d.fleet.follow(&s)
	h := &healer{netns: host.NamespacePath(o.NetNS), log: log, troubles: d.troubles,
		agenda: d.agenda}
	d.reconciler = &reconciler{kernel: o.Kernel, netns: o.NetNS, writer: out, log: log,
		troubles: d.troubles, agenda: d.agenda, healer: h}
	d.routers = &routers{kernel: o.Kernel, control: o.LastHop, log: log, troubles: d.troubles,
		agenda: d.agenda, board: d.board, reconciler: d.reconciler}
	return d, nil
}

// run follows until ctx ends or a task fails.
func (d *daemon) run(ctx context.Context) error {
	tasks, ctx := errgroup.WithContext(ctx)
	numbers := d.fleet.settings.Policy.Numbers
	hostC, err := d.options.Kernel.Subscribe(ctx, numbers) // before the first read
	if errors.Is(err, unix.EPERM) {
		err = hint.New(err, "run as root, or with CAP_NET_ADMIN")
	}
	if err != nil {
		return err
	}
	tell := func(about string, err error) {
		select {
		case d.calls <- func() { d.noted(about, err) }:
		case <-ctx.Done():
		}
	}
	for _, o := range d.doors() {
		l, err := o.openFirst()
		if err != nil {
			return err
		}
		tasks.Go(func() error { return o.keepOpen(ctx, l, tell) })
	}
	tasks.Go(func() error { return d.watcher.Run(ctx) })
	tasks.Go(func() error { return d.live(ctx, hostC) })
	return waitFor(ctx, tasks.Wait)
}

// endTime is how long the tasks may take to end.
const endTime = 2 * time.Second

// waitFor waits for the tasks. When all must end, it waits no longer than
// endTime, whatever a task is stuck in.
func waitFor(ctx context.Context, wait func() error) error {
	done := make(chan error, 1)
	go func() { done <- wait() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(endTime):
		return errors.New("a task does not end; all rules and routes stay in place")
	}
}

// doors are the sockets on which the daemon answers.
func (d *daemon) doors() []door {
	o, s := d.options, d.fleet.settings
	doors := []door{{aboutSocket, func() (net.Listener, error) {
		_ = os.MkdirAll(o.RunDir, 0o755) // or the next line says why not
		return listenLocal(SocketPath(o.RunDir, o.Kernel.Inode()))
	}, localHandler(d.board), d.log.Logger}}
	if s.Metrics != "" {
		doors = append(doors, door{aboutMetrics, func() (net.Listener, error) {
			return listenMetrics(s.Metrics)
		}, metricsHandler(d.board, d.board.times, s.MetricsHosts), d.log.Logger})
	}
	return doors
}

// ended returns no error if everything ends: the sources of events may be gone
// before the loop has looked at ctx.
func ended(ctx context.Context, what string) error {
	if ctx.Err() != nil {
		return nil
	}
	return errors.New(what)
}
