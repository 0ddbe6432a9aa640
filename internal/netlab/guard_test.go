package netlab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"lasthop/internal/nstest"
)

// The kinds of faults of a daemon.
const (
	lostAfter   = "lost-after-event"  // answered before the event, and not after it
	lostDuring  = "lost-during-event" // the event is not about the request
	daemonEnded = "daemon-ended"
	dataRace    = "data-race" // of a daemon that is built to see them
)

// guard is `lasthop run` on the host of one network.
type guard struct {
	*trial
	course *course
	pulse  *pulse
	daemon *exec.Cmd
	log    *nstest.Log
	ended  chan error
	now    plan
	alive  []bool // by request: answered last time
	asked  []bool
	last   Event
	seen   Tally
	sabotage
}

// sabotage plants a fault, in a test of the oracle.
type sabotage struct {
	only             kind         // of events
	chaos            bool         // events hit lasthop itself, too
	first, meanwhile func(*guard) // before its steps, and after them
}

// Tally counts what a daemon did.
type Tally struct {
	Events    int
	Asked     int                      // requests after events
	Sent      int                      // messages of requests that the event is not about
	Unsettled int                      // events after which lasthop was not in sync in time
	Named     int                      // lost requests whose class the plan names
	Gaps      map[string]time.Duration // of the event's requests, by its kind
}

// guarded makes a daemon guard a network for a number of events. It ends with
// the first fault.
func guarded(t testing.TB, n *Network, bin string, events int,
	s sabotage) (Result, Tally) {
	r := Result{Seed: n.Seed, Ingredients: sorted(n.Ingredients), Requests: len(n.Requests)}
	n.station(late)
	g := &guard{trial: &trial{bin: bin, dir: t.TempDir(),
		rungs: map[int]*[2]int{}}, course: newCourse(n),
		log: &nstest.Log{}, ended: make(chan error, 1), sabotage: s,
		seen: Tally{Gaps: map[string]time.Duration{}}}
	g.course.only, g.course.chaos = s.only, s.chaos
	var err error
	if g.built, err = build(t, n); err == nil {
		err = g.run(events)
	}
	if err != nil {
		r.Error = fmt.Sprintf("event %d: %s%v", g.seen.Events, g.last, err)
	}
	r.Faults = g.faults
	return r, g.seen
}

// run starts the daemon, and makes events happen.
func (g *guard) run(events int) error {
	if err := g.files(g.dir); err != nil {
		return err
	}
	stop, err := g.serve()
	if err != nil {
		return err
	}
	defer stop()
	if err := g.start(); err != nil {
		return err
	}
	defer func() {
		g.stop()
		if strings.Contains(g.log.String(), "DATA RACE") {
			g.faults = append(g.faults, Fault{dataRace, "", "", g.log.String()})
		}
	}()
	if err := g.look(); err != nil {
		return err
	}
	if _, err := g.answered(); err != nil {
		return err
	}
	g.pulse = newPulse(g.built, g.after)
	defer g.pulse.close()
	for range events {
		if err := g.event(); err != nil || len(g.faults) > 0 {
			return err
		}
	}
	return nil
}

// start starts the daemon and waits until it is in sync.
func (g *guard) start() error {
	if err := g.launch(); err != nil {
		return err
	}
	for end := time.Now().Add(nstest.Patience(10 * time.Second)); time.Now().Before(end); {
		if s, err := g.status(); err == nil && s.Synced != "" {
			return nil
		}
		time.Sleep(settleStep)
	}
	g.stop()
	return fmt.Errorf("the daemon does not start:\n%s", g.log)
}

// launch starts the daemon.
func (g *guard) launch() (err error) {
	c := g.program(g.bin, g.dir, "run", "-c", g.dir+"/nginx.conf")
	c.Stdout, c.Stderr = g.log, g.log
	g.spaces[host].Do(func() { err = c.Start() })
	if err == nil {
		g.daemon = c
		go func() { g.ended <- c.Wait() }()
	}
	return err
}

// stop ends the daemon. One that has ended already is a fault.
func (g *guard) stop() {
	select {
	case err := <-g.ended:
		g.faults = append(g.faults, Fault{Kind: daemonEnded, Cause: g.last.Name,
			Detail: fmt.Sprint(err)})
	default:
		g.daemon.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(nstest.Patience(5*time.Second),
			func() { g.daemon.Process.Kill() })
		<-g.ended
		kill.Stop()
	}
}

// status is what this oracle reads of lasthop's status.
type status struct {
	InSync bool     `json:"in_sync"`
	Wrong  []string `json:"wrong"`
	Synced string   `json:"synced"`
	Counts struct {
		Syncs int `json:"syncs"`
	} `json:"counts"`
}

func (g *guard) status() (s status, err error) {
	var out bytes.Buffer
	c := exec.Command(g.bin, "status", "-o", "json", "--run-dir="+g.dir+"/run")
	c.Stdout, c.Stderr = &out, &bytes.Buffer{}
	if _, err := g.output(host, c); out.Len() == 0 {
		return s, fmt.Errorf("status: %w", err)
	}
	return s, json.Unmarshal(out.Bytes(), &s)
}

const (
	settleStep = 120 * time.Millisecond // between two looks at the status
	settleIn   = 3 * time.Second        // lasthop is in sync after an event
	settled    = 3                      // looks that find it in sync, and idle
)

// settle waits, for settleIn at most, until the daemon is in sync and has
// nothing to do.
func (g *guard) settle() {
	same, last := 0, -1
	for end := time.Now().Add(nstest.Patience(settleIn)); time.Now().Before(end); {
		time.Sleep(settleStep)
		s, err := g.status()
		if err != nil || !s.InSync || s.Counts.Syncs != last {
			same, last = 0, s.Counts.Syncs
			continue
		}
		if same++; same == settled {
			return
		}
	}
	g.seen.Unsettled++
}

// look reads the present plan.
func (g *guard) look() error {
	out, code, err := g.command("plan", "-o", "json")
	if code != 0 || err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	g.now, err = parsePlan(out)
	return err
}

// event makes the next event happen, and asks during it and after it.
func (g *guard) event() error {
	e := g.course.next()
	g.last, g.seen.Events = e, g.seen.Events+1
	wanted := func(i int) bool { return g.alive[i] && g.course.present(g.Requests[i]) }
	if err := g.pulse.ready(wanted); err != nil {
		return err
	}
	if g.first != nil {
		g.first(g)
	}
	from := time.Now()
	if err := g.happen(e); err != nil {
		return err
	}
	if g.meanwhile != nil {
		g.meanwhile(g)
	}
	g.settle()
	windows := g.pulse.during(from, time.Now())
	e.done()
	old := g.now
	if err := g.look(); err != nil {
		return err
	}
	g.judgeWindows(old, windows)
	return g.judgeAfter(old)
}

// happen carries out an event, and the abuse of lasthop around it.
func (g *guard) happen(e Event) error {
	steps := func() error {
		for _, s := range e.Steps {
			if err := g.do(s); err != nil {
				return err
			}
		}
		return nil
	}
	if e.around == nil {
		return steps()
	}
	return e.around(g, steps)
}

// do carries out one step.
func (g *guard) do(s Step) error {
	for link, text := range s.Leases {
		if err := g.lease(g.dir, link, text); err != nil {
			return err
		}
	}
	if err := g.sysctl(s.Station, s.Sysctls); err != nil {
		return err
	}
	text := strings.Join(append(slices.Clone(s.Lines), ""), "\n")
	text = strings.ReplaceAll(text, "netns "+late+"\n", "netns "+g.spaces[late].Path+"\n")
	args := append(strings.Fields(s.Options), "-batch", "-")
	err := g.built.run(s.Station, text, "ip", args...)
	if err != nil && !strings.Contains(s.Options, "-force") {
		return err
	}
	for _, a := range s.Adverts {
		for range 3 { // one may be lost where a link has just come up
			if g.spaces[s.Station].Do(func() { err = a.send() }); err != nil {
				return fmt.Errorf("advertise %s: %w", s.Station, err)
			}
			time.Sleep(settleStep / 3)
		}
	}
	return nil
}

// answered makes all requests that are possible now, and keeps which are
// answered.
func (g *guard) answered() (answers, error) {
	got, err := g.ask(g.askable(func(i int) bool { return true }))
	if err != nil {
		return nil, err
	}
	if g.alive == nil {
		g.alive, g.asked = make([]bool, len(got)), make([]bool, len(got))
	}
	for i, q := range g.Requests {
		if !g.course.present(q) {
			continue
		}
		// a rule that the event writes again may pass the ban
		if q.Class == banned && g.asked[i] && !g.last.touches(q) && !g.after.any(i) &&
			got.any(i) {
			g.faults = append(g.faults, Fault{banLifted, q.String(), g.last.Name,
				fmt.Sprintf("event %d", g.seen.Events)})
		}
		g.alive[i], g.asked[i] = got.all(i), true
	}
	g.after = got
	return got, nil
}

// askable returns the wanted requests that are possible now.
func (g *guard) askable(wanted func(int) bool) []Request {
	list := slices.Clone(g.Requests)
	for i, q := range list {
		if !g.course.present(q) || !wanted(i) {
			list[i].Client = nil
		}
	}
	return list
}

// judgeWindows finds messages that were lost although nothing of the event is
// about them.
func (g *guard) judgeWindows(old plan, list []window) {
	for _, w := range list {
		q := g.Requests[w.request]
		if g.last.touches(q) {
			if w.over {
				k := g.last.kind()
				g.seen.Gaps[k] = max(g.seen.Gaps[k], w.gap)
			}
			continue
		}
		g.seen.Sent += w.sent
		if w.lost > 0 && !old.asks(q.Listener) && !g.now.asks(q.Listener) &&
			!g.named(old, q) {
			g.faults = append(g.faults, Fault{lostDuring, q.String(), g.last.Name,
				fmt.Sprintf("event %d, %s: %d of %d lost in %s", g.seen.Events,
					w.how, w.lost, w.sent, w.gap.Round(time.Millisecond))})
		}
	}
}

// judgeAfter asks again, and finds lost requests: their rows are ready before
// the event and after it. It asks a lost request a second time, and then asks
// the network whether it answers a reply by the expected way.
func (g *guard) judgeAfter(old plan) error {
	before := slices.Clone(g.alive)
	got, err := g.answered()
	if err != nil {
		return err
	}
	lost := map[int]bool{}
	for i, q := range g.Requests {
		if !g.course.present(q) || !before[i] {
			continue
		}
		g.seen.Asked++
		if !got.all(i) && g.promised(old, q) {
			lost[i] = true
		}
	}
	if len(lost) == 0 {
		return nil
	}
	time.Sleep(grace)
	if got, err = g.ask(g.askable(func(i int) bool { return lost[i] })); err != nil {
		return err
	}
	for _, i := range sorted(lost) {
		q := g.Requests[i]
		switch {
		case got.all(i):
			g.alive[i] = true
		case q.Class == own:
			g.faults = append(g.faults, Fault{ownLost, q.String(), g.last.Name,
				fmt.Sprintf("event %d, %v", g.seen.Events, got.dark(i))})
		case g.named(old, q):
			g.seen.Named++
		default:
			detail := fmt.Sprintf("event %d, %v, %s, then %s, expected by %s",
				g.seen.Events, got.dark(i), old.row(q.Listener.Addr).Status,
				g.now.row(q.Listener.Addr).Status, q.Way)
			g.suspects = append(g.suspects, suspect{i, Fault{lostAfter, q.String(),
				g.last.Name, detail}})
		}
	}
	return g.blame()
}

// named reports whether the plan has a new statement that replies of a request
// move, or may be lost.
func (g *guard) named(old plan, q Request) bool {
	return g.now.moved(q) && !old.moved(q) || g.now.warns(q, old.Findings)
}

// promised reports whether a request must be answered after the event if it was
// answered before it. That is so if its row is ready and no warning says that
// its replies leave by another link's LAN. A request of the host itself must be
// answered if the event is about something else.
func (g *guard) promised(old plan, q Request) bool {
	if q.Class == own {
		return !g.last.touches(q)
	}
	return q.Class != banned && !old.asks(q.Listener) && !g.now.asks(q.Listener) &&
		!old.elsewhere(q) &&
		!(g.course.undo["vpn"] != nil && g.taken(q))
}

// taken reports whether a VPN for everything may take a request's replies,
// whatever lasthop does: those of a container's bridge, which lasthop leaves
// alone; and those that only a rule by hand answers by the path, since wg-quick
// and NetBird put main in front of that rule.
func (g *guard) taken(q Request) bool {
	return g.now.row(q.Listener.Addr).Status == "local" ||
		q.Listener.Rung == byHand && (q.Class == otherLAN || q.Class == static)
}

// blame asks the network about the suspects. If the network itself does not
// answer, the oracle is wrong. The course ends as well, because the proof has
// changed the host.
func (g *guard) blame() error {
	if len(g.suspects) == 0 {
		return nil
	}
	picture, err := g.snapshot()
	if err != nil {
		return err
	}
	if err := g.prove(); err != nil {
		return err
	}
	for i := range g.faults {
		if g.faults[i].Kind == unsound {
			g.faults[i].Cause = g.last.Name
		}
	}
	if *details {
		fmt.Printf("%s\n%s\n%s\n", g.last, picture, g.log)
	}
	return nil
}

// kind returns the name of an event, without the objects in it.
func (e Event) kind() string {
	words := strings.Fields(e.Name)
	return strings.Join(slices.DeleteFunc(words,
		func(s string) bool { return strings.ContainsAny(s, "0123456789:") }), " ")
}
