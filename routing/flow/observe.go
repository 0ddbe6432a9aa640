package flow

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"lasthop/routing"

	"golang.org/x/sys/unix"
)

// Options say what to observe.
type Options struct {
	Host      routing.Host
	Listeners []routing.Listener // of one address each: see Listeners
	// Inside calls f on a thread in the network namespace; nil is the
	// process's own.
	Inside func(f func() error) error
	Probe  bool // ask routers that have no name: see probeNameless
}

// Listeners are those of outcomes: a wildcard is one for each address.
func Listeners(outcomes []routing.Outcome) []routing.Listener {
	out := make([]routing.Listener, 0, len(outcomes))
	for _, o := range outcomes {
		out = append(out, o.Listener)
	}
	return out
}

// Observer observes the packets of one network namespace until it is closed. It
// is not safe for concurrent use.
type Observer struct {
	table *table
	ring  *ring
	spec  filterSpec
	stat  *os.File // of the namespace, for SYN cookies
	used  usage

	named  func(wire string, mac routing.MAC) bool
	probes map[prober]bool // that were sent; nil for none
}

// Progress is how far a window is.
type Progress struct {
	Elapsed time.Duration
	Packets int // that were taken
	Flows   int // that are in the table
	Look    func() routing.Evidence
}

// usage is what one window has counted.
type usage struct {
	from     time.Time
	cookies  int64 // SYN cookies sent before
	packets  int
	dropped  int
	taken    [classes]int // since the last step
	stepped  time.Time
	steps    int
	coarsest masks // after the first steps
}

// Open begins to observe. Without CAP_NET_RAW the error is unix.EPERM.
func Open(o Options) (*Observer, error) {
	x := &Observer{table: newTable(newNetwork(o.Host, o.Listeners)),
		spec: filterSpec{ports: portsOf(o.Listeners), masks: coarse, salt: rand.Uint32(),
			probe: o.Probe, headless: slices.ContainsFunc(o.Host.Links, headless)}}
	inside := o.Inside
	if inside == nil {
		inside = func(f func() error) error { return f() }
	}
	err := inside(func() (err error) {
		if x.ring, err = openRing(&x.spec); err != nil {
			return err
		}
		x.stat, err = os.Open("/proc/thread-self/net/netstat")
		return err
	})
	if err != nil {
		x.Close()
		return nil, err
	}
	x.joinVRRP(o.Host)
	if o.Probe {
		x.probes = map[prober]bool{}
		x.named = routing.Named(o.Host)
	}
	x.begin()
	return x, nil
}

// headless reports whether a link may have no link header although its type is
// that of Ethernet (drivers/net/netkit.c, in mode l3).
func headless(l routing.Link) bool { return l.Kind == "netkit" }

// vrrpGroups are the groups in which routers announce themselves. A NIC passes
// neither to a host that did not join it.
var vrrpGroups = [][6]byte{{0x01, 0, 0x5e, 0, 0, 0x12}, {0x33, 0x33, 0, 0, 0, 0x12}}

func (o *Observer) joinVRRP(h routing.Host) {
	for _, l := range h.Links {
		if l.Loopback || !l.Up || l.PointToPoint {
			continue
		}
		for _, g := range vrrpGroups {
			_ = o.ring.join(l.Index, g) // a link without multicast has no VRRP
		}
	}
}

// Close ends the observation.
func (o *Observer) Close() {
	if o.ring != nil {
		o.ring.close()
	}
	if o.stat != nil {
		o.stat.Close()
	}
}

// Observe observes for a time, or until ctx is done, which is no error.
func Observe(ctx context.Context, o Options, d time.Duration) (routing.Evidence, error) {
	x, err := Open(o)
	if err != nil {
		return routing.Evidence{}, err
	}
	defer x.Close()
	return x.Window(ctx, d, nil)
}

// Window observes for a time, or until ctx is done, and returns what was seen
// since the last window. Undecided connections are in the next window, too.
// Four times a second it calls each, which may be nil; if that returns true the
// window ends.
func (o *Observer) Window(ctx context.Context, d time.Duration,
	each func(Progress) bool) (routing.Evidence, error) {
	end := time.Now().Add(d)
	for ctx.Err() == nil && time.Now().Before(end) {
		if err := o.turn(min(time.Until(end), steering)); err != nil {
			return routing.Evidence{}, err
		}
		if o.probes != nil {
			o.probeNameless()
		}
		if each != nil && each(Progress{time.Since(o.used.from), o.used.packets,
			len(o.table.flows), o.look}) {
			break
		}
	}
	e := o.evidence(o.table.turn(o.now()))
	o.begin()
	return e, nil
}

// Forget drops what was seen until now, undecided connections included, and
// begins a window: packets before a change say nothing about what comes after
// it.
func (o *Observer) Forget() {
	for o.ring.block(func(Meta, []byte) {}) {
	}
	o.table.turn(o.now())
	o.table.clear()
	o.begin()
}

// look is the evidence until now; the window goes on.
func (o *Observer) look() routing.Evidence { return o.evidence(o.table.peek(o.now())) }

// now is the time of the kernel's stamps.
func (o *Observer) now() time.Duration { return time.Duration(time.Now().UnixNano()) }

// turn reads the packets that have come, waits for more, and steers.
func (o *Observer) turn(d time.Duration) error {
	end := time.Now().Add(d)
	for {
		for o.ring.block(o.take) {
			if err := o.relieve(); err != nil {
				return err
			}
		}
		left := time.Until(end)
		if left <= 0 {
			return o.steer()
		}
		if err := o.ring.wait(max(left, time.Millisecond)); err != nil {
			return fmt.Errorf("wait for packets: %w", err)
		}
	}
}

func (o *Observer) take(m Meta, frame []byte) {
	o.used.packets++
	p, ok := Parse(m, frame, o.spec.salt)
	if !ok {
		return
	}
	o.used.taken[p.class()]++
	o.table.add(&p)
}

// relieve steers immediately if a class has overrun its budget of a whole step.
func (o *Observer) relieve() error {
	if time.Since(o.used.stepped) < atMost {
		return nil
	}
	for _, n := range o.used.taken {
		if n > int(budget*steering/time.Second) {
			return o.steer()
		}
	}
	return nil
}

// steer lets the sampling follow the traffic.
func (o *Observer) steer() error {
	was := o.spec.masks
	o.spec.masks = was.steer(o.used.taken, max(time.Since(o.used.stepped), atMost))
	o.used.taken, o.used.stepped = [classes]int{}, time.Now()
	o.used.dropped += o.ring.drops()
	if o.used.steps++; o.used.steps > 3 {
		for c := range o.used.coarsest {
			o.used.coarsest[c] = max(o.used.coarsest[c], o.spec.masks[c])
		}
	}
	if o.spec.masks == was {
		return nil
	}
	if err := o.ring.filter(&o.spec); err != nil {
		return err
	}
	if o.spec.masks[handshake] > was[handshake] {
		o.table.narrow(o.spec.masks[handshake])
	}
	return nil
}

// begin begins a window.
func (o *Observer) begin() {
	steps := 0
	if !o.used.from.IsZero() {
		steps = 3 // the traffic is known
	}
	o.used = usage{from: time.Now(), stepped: time.Now(), cookies: o.cookies(), steps: steps}
}

// evidence puts together what a window has shown.
func (o *Observer) evidence(t tally) routing.Evidence {
	to := time.Now()
	o.used.dropped += o.ring.drops()
	cookies := o.cookies() != o.used.cookies
	s := routing.Sampling{Packets: o.used.packets, Dropped: o.used.dropped,
		Evicted: o.table.forgotten, SYNCookies: cookies}
	used := o.used.coarsest
	for c := range used {
		used[c] = max(used[c], o.spec.masks[c])
	}
	s.Handshakes, s.Payload = oneIn(used[handshake]), oneIn(used[payload])
	s.Requests, s.Segments = oneIn(used[requests]), oneIn(used[segments])
	return routing.Evidence{Sampling: s, Ways: t.list(cookies), Clients: t.distinct(),
		Names: o.table.names.list(), Window: routing.Window{From: o.used.from.UTC(),
			To:      to.UTC(),
			Seconds: float64(to.Sub(o.used.from).Round(time.Millisecond)) / 1e9}}
}

// cookies returns how many SYN cookies the namespace has sent.
func (o *Observer) cookies() int64 {
	b := make([]byte, 16<<10)
	n, err := o.stat.ReadAt(b, 0)
	if n == 0 && err != nil {
		return 0
	}
	return counter(string(b[:n]), "TcpExt:", "SyncookiesSent")
}

// counter returns a number of /proc/net/netstat: a line of names and a line of
// numbers, both with the same first word.
func counter(text, head, name string) int64 {
	var names []string
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0] != head:
		case names == nil:
			names = words
		default:
			for i, w := range words {
				if i < len(names) && names[i] == name {
					n, _ := strconv.ParseInt(w, 10, 64)
					return n
				}
			}
		}
	}
	return 0
}

// NotAllowed reports whether the error means that this user may not observe
// packets.
func NotAllowed(err error) bool { return errors.Is(err, unix.EPERM) }
