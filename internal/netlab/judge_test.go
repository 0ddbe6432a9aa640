package netlab

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The kinds of faults. Evidence is what the host has for a gateway.
const (
	readyButDark    = "ready-but-dark"           // a row says that it works, but it does not
	namedDark       = "named-and-dark"           // the same, but a finding names the client
	lost            = "lost"                     // answered before, and not after
	movedAndLost    = "moved-and-lost"           // the same, but the plan names the class
	evidenceIgnored = "evidence-ignored"         // lasthop does not use the evidence
	unresolved      = "unresolved-with-evidence" // lasthop does not find the evidence
	askedInVain     = "asked-in-vain"            // evidence, answers, and yet a question
	flagFails       = "flag-fails"               // the flag that the plan prints does not help
	checkContent    = "check-content"            // a dark listener, and check is content
	falseAlarm      = "false-alarm"              // check reports a problem, and there is none
	notRestored     = "not-restored"             // clear leaves something, or removes too much
	applyFails      = "apply-fails"
	secondWrites    = "second-apply-writes"
	banLifted       = "ban-lifted"
	ownLost         = "own-lost"       // a connection that the host opened
	seenOtherwise   = "seen-otherwise" // the observer contradicts it
	unsound         = "unsound"        // the network does not answer: the oracle is wrong
)

// Fault is one thing that is wrong.
type Fault struct {
	Kind    string `json:"kind"`
	Subject string `json:"subject,omitempty"` // the request
	Cause   string `json:"cause,omitempty"`
	Detail  string `json:"detail,omitempty"`
}

func (f Fault) String() string {
	return fmt.Sprintf("%s: %s %s (%s)", f.Kind, f.Subject, f.Detail, f.Cause)
}

// plan is what this oracle reads of lasthop's JSON, of any version.
type plan struct {
	Listeners []row            `json:"listeners"`
	Findings  []finding        `json:"findings"`
	Moves     []map[string]any `json:"moves"`
	Writes    int              `json:"writes"`
}

type row struct {
	Address   string `json:"address"`
	Status    string `json:"status"`
	Reason    string `json:"reason"`
	Interface string `json:"interface"`
}

type finding struct {
	Code    string `json:"code"`
	Level   string `json:"severity"`
	Subject string `json:"subject"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

func parsePlan(text []byte) (p plan, err error) {
	if err = json.Unmarshal(text, &p); err != nil {
		err = fmt.Errorf("parse JSON: %w", err)
	}
	return p, err
}

func (p plan) row(a netip.Addr) row {
	for _, r := range p.Listeners {
		if r.Address == a.String() {
			return r
		}
	}
	return row{}
}

// asks reports whether the plan asks the administrator for the way of a
// listener, and so promises nothing.
func (p plan) asks(l *Listener) bool {
	r := p.row(l.Addr)
	return r.Status == "unresolved" || r.Status == "" || r.Status == "off" ||
		r.Status == "local" && slices.ContainsFunc(p.Findings, func(f finding) bool {
			return f.Code == "beyond-tunnel" && f.names(l, l.Link)
		})
}

// wildcardOnly reports whether only a wildcard matches a listener, and the plan
// says so: then check may report no problem.
func (p plan) wildcardOnly(l *Listener) bool {
	r := p.row(l.Addr)
	return r.Status == "off" && r.Reason == "wildcard-only"
}

// names reports whether a finding is about a listener, or a link that it is on.
func (f finding) names(l *Listener, at string) bool {
	return slices.ContainsFunc([]string{l.Addr.String(), l.Link, at}, func(name string) bool {
		return has(f.Subject+" "+f.Message+" "+f.Hint, name)
	})
}

// has reports whether a text contains an address or the name of a link.
func has(text, name string) bool {
	return regexp.MustCompile(`[^\w.:]` + regexp.QuoteMeta(name) + `([^\w.:]|[.:][^\w])`).
		MatchString(" " + text + " ")
}

// moved reports whether the plan names a request's class as one whose way
// changes.
func (p plan) moved(q Request) bool {
	return slices.ContainsFunc(p.Moves, func(m map[string]any) bool {
		return mentions(m, q.Listener.Addr, "addr", "listen") &&
			mentions(m, q.Client.Addr, "client") &&
			(q.Class == offLink || !everybody(m))
	})
}

// everybody reports whether a move names all clients that are in no other
// class: the off-link ones.
func everybody(m map[string]any) bool {
	return mentions(m, netip.IPv4Unspecified(), "client") ||
		mentions(m, netip.IPv6Unspecified(), "client")
}

// mentions reports whether a member whose name contains one of the words holds
// an address or a prefix around it.
func mentions(m map[string]any, a netip.Addr, words ...string) bool {
	for name, value := range m {
		if !slices.ContainsFunc(words,
			func(w string) bool { return strings.Contains(strings.ToLower(name), w) }) {
			continue
		}
		for _, word := range strings.FieldsFunc(fmt.Sprint(value),
			func(r rune) bool { return strings.ContainsRune(" ,[]()", r) }) {
			if b, err := netip.ParseAddr(word); err == nil && a == b {
				return true
			}
			if b, err := netip.ParsePrefix(word); err == nil && b.Contains(a) {
				return true
			}
		}
	}
	return false
}

// warns reports whether there is a new warning that names a listener, or its
// link, and a prefix around the client or a rule in front for all clients.
// static-elsewhere counts, too, if no-gateway has its remedy.
func (p plan) warns(q Request, before []finding) bool {
	at := cmp.Or(p.row(q.Listener.Addr).Interface, q.Listener.Link)
	return slices.ContainsFunc(p.Findings, func(f finding) bool {
		if f.Level == "info" && f.Code != "static-elsewhere" || !f.names(q.Listener, at) ||
			slices.ContainsFunc(before, func(b finding) bool {
				return b.Code == f.Code && b.Subject == f.Subject
			}) {
			return false
		}
		if f.Code == "shadowed" && !strings.Contains(f.Hint, " to ") {
			return true
		}
		return around(f.Message+" "+f.Hint, q.Client.Addr)
	})
}

// around reports whether a text names a prefix around an address.
func around(text string, a netip.Addr) bool {
	return slices.ContainsFunc(strings.FieldsFunc(text,
		func(r rune) bool { return strings.ContainsRune(" ,;()'`", r) }),
		func(word string) bool {
			p, err := netip.ParsePrefix(word)
			return err == nil && p.Bits() > 0 && p.Contains(a)
		})
}

// elsewhere reports whether a warning says that replies to a client behind a
// static route leave by the link of that route.
func (p plan) elsewhere(q Request) bool {
	return q.Class == static && slices.ContainsFunc(p.Findings, func(f finding) bool {
		return f.Code == "static-elsewhere" && around(f.Message, q.Client.Addr)
	})
}

// tellsRouter reports whether the plan says of an off-link client's router that
// no client behind it gets an answer: the router belongs to an uplink which
// does not answer the listener, or its own packets are dropped.
func (p plan) tellsRouter(q Request) bool {
	at := p.row(q.Listener.Addr).Interface
	return q.Class == offLink && slices.ContainsFunc(p.Findings, func(f finding) bool {
		switch f.Code {
		case "routed-address":
			return f.Subject == q.Listener.Addr.String() && q.Way.Link != at &&
				has(f.Message, q.Way.Link)
		case "rp-filter":
			return f.Subject == at && q.Way.Link == at &&
				has(f.Message, q.Way.Via.String()) &&
				strings.Contains(f.Message, "clients behind it")
		}
		return false
	})
}

var flagWords = regexp.MustCompile(`--(gateway|address|return|direct)[ =]([^\s,;()]+(,[^\s;()]+)?)`)

// flag returns the first new flag that the plan prints for a listener, with the
// interface and the gateway filled in, which only a person knows.
func (p plan) flag(l *Listener, via netip.Addr, there []string) []string {
	row := p.row(l.Addr)
	at := cmp.Or(row.Interface, l.Link)
	for _, f := range p.Findings {
		wild := f.Code == "wildcard-only" && p.wildcardOnly(l)
		if !wild && !f.names(l, at) {
			continue
		}
		for _, m := range flagWords.FindAllStringSubmatch(f.Hint+" "+f.Message, -1) {
			name, value, ok := strings.Cut(m[2], "=")
			if !ok {
				continue
			}
			value = strings.Trim(value, "`'\".")
			printed, err := netip.ParseAddr(value)
			other := err == nil && printed.Is4() != l.Addr.Is4() // for the other family
			var flag []string
			switch {
			case m[1] == "gateway" && name == at && !other:
				flag = []string{"--gateway", name + "=" + via.String()}
			case m[1] == "address" &&
				(name == l.Addr.String() || wild && name == "ADDR"):
				flag = []string{"--address",
					l.Addr.String() + "=" + l.Link + gateway(value, via)}
			}
			if flag != nil && !slices.Contains(there, flag[1]) {
				return flag
			}
		}
	}
	return nil
}

// gateway returns the second part of --address if the plan asks for it.
func gateway(value string, via netip.Addr) string {
	if strings.Contains(value, ",") {
		return "," + via.String()
	}
	return ""
}

// judge finds faults in the answers before and after.
func (t *trial) judge() {
	t.judgeRequests()
	t.judgeCheck()
	t.judgePackets()
	for _, l := range t.Listeners {
		if l.Rung > 0 {
			t.judgeEvidence(l)
		}
	}
}

// judgeCheck finds a check that asks for attention although every listener has
// its way and every request is answered.
func (t *trial) judgeCheck() {
	if t.checkCode != 2 {
		return
	}
	for i, q := range t.Requests {
		if q.Class != own && q.Class != banned &&
			(len(t.after.dark(i)) > 0 || t.plan.asks(q.Listener)) {
			return
		}
	}
	t.faults = append(t.faults, Fault{Kind: falseAlarm, Detail: t.checkSaid})
}

// judgeRequests compares each request with what the plan says of its listener.
func (t *trial) judgeRequests() {
	for i, q := range t.Requests {
		dark := t.after.dark(i)
		if q.Class == own {
			if t.before.all(i) && len(dark) > 0 {
				t.fault(ownLost, i, "%v", dark)
			}
			continue
		}
		status := t.plan.row(q.Listener.Addr).Status
		if q.Class == banned {
			if !t.before.any(i) && t.after.any(i) {
				t.fault(banLifted, i, "by %s", q.Way)
			}
			continue
		}
		if len(dark) == 0 {
			continue
		}
		worse := slices.ContainsFunc(dark,
			func(p protocol) bool { return t.before[i][p] })
		switch {
		case worse && t.plan.moved(q):
			t.fault(movedAndLost, i, "%v", dark)
		case worse:
			t.fault(lost, i, "%v", dark)
		}
		if !t.plan.asks(q.Listener) {
			kind := readyButDark
			if t.plan.warns(q, nil) || t.plan.tellsRouter(q) {
				kind = namedDark
			}
			t.fault(kind, i, "%v, %s, expected by %s", dark, status, q.Way)
		}
		if t.checkCode == 0 && !t.plan.wildcardOnly(q.Listener) {
			t.fault(checkContent, i, "%v, %s", dark, status)
		}
	}
}

// judgeEvidence checks whether lasthop has found the evidence for a listener's
// gateway: then its clients behind the router are answered.
func (t *trial) judgeEvidence(l *Listener) {
	t.rungs[l.Rung][1]++
	answered := true
	for i, q := range t.Requests {
		if q.Listener == l && q.Class == offLink && len(t.after.dark(i)) > 0 {
			kind := evidenceIgnored
			if t.plan.asks(l) {
				kind = unresolved
			}
			t.fault(kind, i, "rung %d, %s", l.Rung, t.plan.row(l.Addr).Status)
			answered = false
		}
	}
	if answered {
		t.rungs[l.Rung][0]++
		t.judgeAnswered(l)
	}
}

// judgeAnswered finds a plan that asks for the way of a listener although the
// host has always answered its clients.
func (t *trial) judgeAnswered(l *Listener) {
	for i, q := range t.Requests {
		if q.Listener == l && q.Class == offLink && t.before.all(i) && t.plan.asks(l) {
			t.fault(askedInVain, i, "rung %d, %s", l.Rung, t.plan.row(l.Addr).Status)
		}
	}
}

// any reports whether any protocol was answered.
func (a answers) any(i int) bool { return len(a.dark(i)) < len(protocols) }

// fault records a fault of a request. It counts only once the network has
// proved that a reply by the expected way is answered.
func (t *trial) fault(kind string, i int, format string, args ...any) {
	q := t.Requests[i]
	t.suspects = append(t.suspects, suspect{i, Fault{kind, q.String(), t.cause(q),
		fmt.Sprintf(format, args...)}})
}

// TestTellsRouter: what the plan says of a router counts only for off-link
// clients that come by that router to that listener.
func TestTellsRouter(t *testing.T) {
	at := netip.MustParseAddr("203.0.113.200")
	p := plan{Listeners: []row{{Address: at.String(), Interface: "eth0"}},
		Findings: []finding{{Code: "routed-address", Level: "info", Subject: at.String(),
			Message: "replies leave by eth0, even if requests come in by eth1"}}}
	strict := plan{Listeners: p.Listeners, Findings: []finding{{Code: "rp-filter",
		Level: "warning", Subject: "eth0", Message: "the router 10.7.0.1 itself sends: " +
			"no request of the clients behind it"}}}
	far := strict
	far.Findings = []finding{{Code: "rp-filter", Level: "warning", Subject: "eth0",
		Message: "drops requests: its replies leave via 10.7.0.1"}}
	for _, c := range []struct {
		plan            plan
		to, class, link string
		via             string
		want            bool
	}{
		{p, "203.0.113.200", offLink, "eth1", "10.7.1.1", true},
		{p, "203.0.113.200", offLink, "eth0", "10.7.0.1", false},
		{p, "203.0.113.200", offLink, "eth11", "10.7.1.1", false},
		{p, "203.0.113.200", otherLAN, "eth1", "10.7.1.1", false},
		{p, "203.0.113.20", offLink, "eth1", "10.7.1.1", false},
		{strict, "203.0.113.200", offLink, "eth0", "10.7.0.1", true},
		{strict, "203.0.113.200", offLink, "eth0", "10.7.0.11", false},
		{strict, "203.0.113.200", offLink, "eth1", "10.7.0.1", false},
		{strict, "203.0.113.200", static, "eth0", "10.7.0.1", false},
		{far, "203.0.113.200", offLink, "eth0", "10.7.0.1", false},
	} {
		q := Request{Client: &Client{}, Class: c.class,
			Listener: &Listener{Addr: netip.MustParseAddr(c.to)},
			Way:      Way{c.link, netip.MustParseAddr(c.via)}}
		if got := c.plan.tellsRouter(q); got != c.want {
			t.Errorf("%s to %s by %s: %t", c.class, c.to, q.Way, got)
		}
	}
}
