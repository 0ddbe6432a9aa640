package netlab

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"lasthop/internal/nstest"
)

// observer is `lasthop observe` on the host during the requests.
type observer struct {
	process   *exec.Cmd // nil: it has ended
	out, diag nstest.Log
	late      map[int]bool // requests over TCP that were answered only while it waited
	since     time.Time    // when it began to look
	sight     sight
	compared  [2]int // requests by protocol: those with a way, and all
}

// sight is what this oracle reads of the observer's JSON.
type sight struct {
	Seen []struct {
		Address   netip.Addr `json:"address"`
		Transport string     `json:"transport"`
		Ways      []seenWay  `json:"ways"`
	} `json:"seen"`
}

type seenWay struct {
	Clients  int          `json:"clients"`
	Examples []netip.Addr `json:"examples"`
	In       crossing     `json:"in"`
	Out      crossing     `json:"out"`
	Verdict  string       `json:"verdict"`
	Outcome  string       `json:"outcome"`
}

type crossing struct {
	Link string `json:"interface"`
	Wire string `json:"wire"`
	MAC  string `json:"mac"`
}

func (w seenWay) String() string {
	return fmt.Sprintf("%s, %s: in by %s %s, out by %s %s", w.Verdict, w.Outcome, w.In.Link,
		w.In.MAC, w.Out.Link, w.Out.MAC)
}

const (
	// steady is the time until an observer looks at everything: it begins
	// with a part, and adjusts to the traffic four times a second.
	steady = 550 * time.Millisecond
	// repeated is the time within which a kernel repeats a segment of TCP.
	// Before, no connection counts as lost.
	repeated = 1200 * time.Millisecond
	// losses is how many lost connections make a way dark.
	losses = 3
	// looking ends an observer that the test did not end.
	looking = "1m"
)

// observe starts the observer. It settles while lasthop applies.
func (t *trial) observe() error {
	o := &observer{late: map[int]bool{}}
	t.seer = o
	c := t.program(t.bin, t.dir, "observe", "-o", "json", "--for", looking,
		"-c", t.dir+"/nginx.conf")
	c.Stdout, c.Stderr = &o.out, &o.diag
	c.SysProcAttr.Setpgid = true
	err := fmt.Errorf("not started")
	t.spaces[host].Do(func() { err = c.Start() })
	if err != nil {
		return fmt.Errorf("observe: %w", err)
	}
	o.process = c
	return nil
}

// notice records when the observer begins to look.
func (t *trial) notice() (looks bool) {
	t.spaces[host].Do(func() { looks = watched() })
	if looks && t.seer.since.IsZero() {
		t.seer.since = time.Now()
	}
	return looks
}

// looks waits until the observer looks at everything.
func (t *trial) looks() error {
	for end := time.Now().Add(nstest.Patience(10 * time.Second)); time.Now().Before(end); {
		if t.notice() {
			time.Sleep(time.Until(t.seer.since.Add(steady)))
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("observe does not begin to look: %s", t.seer.diag.String())
}

// watched reports whether a packet socket of this thread's namespace takes
// packets.
func watched() bool {
	const running = 5 // the column
	text, _ := os.ReadFile("/proc/thread-self/net/packet")
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > running && f[running] == "1" {
			return true
		}
	}
	return false
}

// watchedAsk asks all requests while the observer looks, and reads what it saw.
func (t *trial) watchedAsk() (err error) {
	if err := t.looks(); err != nil {
		return err
	}
	if t.after, err = t.ask(t.Requests); err != nil {
		return err
	}
	if err := t.linger(); err != nil {
		return err
	}
	return t.seer.end()
}

// linger repeats the dark requests over TCP until segments are repeated, so
// often that a way counts as dark. Answers that come only now do not count.
func (t *trial) linger() error {
	var list []Request
	var index []int
	var got answers
	for i, q := range t.Requests {
		if !q.provable() || t.after[i][tcp] {
			continue
		}
		for range losses {
			list, index = append(list, q), append(index, i)
			got = append(got, map[protocol]bool{udp: true, ping: true})
		}
	}
	if len(list) == 0 {
		return nil
	}
	err := t.round(list, got, nstest.Patience(repeated))
	for k, i := range index {
		if got[k][tcp] {
			t.seer.late[i] = true
		}
	}
	return err
}

// end interrupts the observer and reads what it prints.
func (o *observer) end() error {
	c := o.process
	o.process = nil
	if err := syscall.Kill(-c.Process.Pid, syscall.SIGINT); err != nil {
		return fmt.Errorf("interrupt observe: %w", err)
	}
	stop := time.AfterFunc(nstest.Patience(10*time.Second), func() { c.Process.Kill() })
	defer stop.Stop()
	const findings = 2
	if err := c.Wait(); err != nil && c.ProcessState.ExitCode() != findings {
		return fmt.Errorf("observe: %w: %s", err, o.diag.String())
	}
	if err := json.Unmarshal([]byte(o.out.String()), &o.sight); err != nil {
		return fmt.Errorf("parse JSON of observe: %w", err)
	}
	return nil
}

// close ends an observer that the test has not ended.
func (o *observer) close() {
	if o != nil && o.process != nil {
		o.process.Process.Kill()
		o.process.Wait()
	}
}

// ways returns how many ways were seen.
func (o *observer) ways() (n int) {
	for _, l := range o.sight.Seen {
		n += len(l.Ways)
	}
	return n
}

// transports are the observer's words.
var transports = map[protocol]string{tcp: "tcp", udp: "udp", ping: "icmp"}

// judgePackets compares the observer's statements with what the network has
// shown. An unknown verdict or outcome does not count.
func (t *trial) judgePackets() {
	for i, q := range t.Requests {
		if !q.provable() {
			continue
		}
		for _, how := range protocols {
			t.seer.compared[1]++
			if list := t.seer.of(q, how); len(list) > 0 {
				t.seer.compared[0]++
				t.judgeSeen(i, how, list)
			}
		}
	}
	for _, l := range t.seer.sight.Seen {
		for _, w := range l.Ways {
			if w.Outcome == "works" {
				t.judgeWorks(l.Address, l.Transport, w)
			}
		}
	}
}

// of returns the ways that may include a request by a protocol. If none of them
// names its client, it returns none.
func (o *observer) of(q Request, how protocol) (list []seenWay) {
	named := false
	for _, l := range o.sight.Seen {
		if l.Address != q.Listener.Addr || l.Transport != transports[how] {
			continue
		}
		for _, w := range l.Ways {
			if w.may(q) {
				list, named = append(list, w), named || w.names(q)
			}
		}
	}
	if !named {
		return nil
	}
	return list
}

// may reports whether a way may include a request: a way does not name all of
// its clients.
func (w seenWay) may(q Request) bool {
	return w.names(q) || w.Clients > len(w.Examples) && w.In.by(q.Way.Link)
}

func (w seenWay) names(q Request) bool { return slices.Contains(w.Examples, q.Client.Addr) }

func (c crossing) by(link string) bool { return c.Link == link || c.Wire == link }

// judgeSeen compares one request, by one protocol, with the ways that may
// include it.
func (t *trial) judgeSeen(i int, how protocol, list []seenWay) {
	q := t.Requests[i]
	for _, w := range list {
		from := t.sender(q)
		if w.names(q) && (!w.In.by(q.Way.Link) ||
			from != "" && w.In.MAC != "" && w.In.MAC != from) {
			t.fault(seenOtherwise, i, "%s came by %s %s, seen as %s", how, q.Way, from,
				w)
		}
	}
	denied := func(w seenWay) bool { return w.denies(q, how) }
	right := func(w seenWay) bool {
		return w.Verdict == "symmetric" && w.Outcome != "refused"
	}
	switch {
	case t.after[i][how] && all(list, denied):
		t.fault(seenOtherwise, i, "%s is answered by %s, seen as %s", how, q.Way, list[0])
	case !t.after[i][how] && !t.seer.late[i] && all(list, right):
		t.fault(seenOtherwise, i, "%s is dark, expected by %s, seen as %s", how, q.Way,
			list[0])
	}
}

// denies reports whether a way contradicts an answered request. An answer over
// TCP through a strict router has left by it.
func (w seenWay) denies(q Request, how protocol) bool {
	strict := q.Router != nil && q.Router.Strict && how == tcp
	return w.Outcome == "dark" || w.Outcome == "refused" || w.Verdict == "unanswered" ||
		strict && (w.Verdict == "asymmetric" || w.Verdict == "other-router")
}

// judgeWorks finds a way that works, but none of its requests is answered.
func (t *trial) judgeWorks(to netip.Addr, transport string, w seenWay) {
	first := -1
	for i, q := range t.Requests {
		if q.Listener == nil || q.Listener.Addr != to || !w.may(q) {
			continue
		}
		for _, how := range protocols {
			if transports[how] != transport {
				continue
			}
			if t.after[i][how] || t.seer.late[i] {
				return
			}
			if first < 0 {
				first = i
			}
		}
	}
	if first >= 0 {
		t.fault(seenOtherwise, first, "%s is dark, seen as %s", transport, w)
	}
}

// sender returns the MAC that a request comes from; "" if the network does not
// define it.
func (t *trial) sender(q Request) string {
	for i, s := range t.Segments {
		if s.Link != q.Way.Link {
			continue
		}
		for _, r := range t.Routers {
			for _, net := range s.Subnets {
				if q.Way.Via.IsValid() && r.in(net) && r.address(net) == q.Way.Via {
					return mac(r.Name + legLink(i))
				}
			}
		}
		for _, w := range t.Wires {
			if !q.Way.Via.IsValid() && w.Station == q.Client.Station &&
				w.Segment == s.Name {
				return mac(w.Station + w.Link)
			}
		}
	}
	return ""
}

func all[E any](list []E, f func(E) bool) bool {
	return !slices.ContainsFunc(list, func(e E) bool { return !f(e) })
}
