package host

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"lasthop/routing"

	"golang.org/x/sys/unix"
)

// Prove rebuilds the host of a claim in the process's network namespace, which
// must be a fresh one, carries the plan out there, and asks the kernel before
// and after. It returns the kernel's answers. Errors wrap EPERM if this process
// may not make links here.
func Prove(c routing.Claim) (routing.Proof, error) {
	p := routing.Proof{Kernel: release()}
	k, err := Open("")
	if err != nil {
		return p, err
	}
	defer k.Close()
	if p.NotRebuilt, err = k.Rebuild(routing.Without(c.Host, c.Numbers)); err != nil {
		return p, fmt.Errorf("rebuild the host: %w", err)
	}
	if err := verify(&k.conn, c, &p, routing.BeforeApply); err != nil {
		return p, err
	}
	c.Plan.State = rebuildable(c.Plan.State, &p)
	if err := carryOut(k, c, &p); err != nil {
		return p, err
	}
	return p, verify(&k.conn, c, &p, routing.AfterApply)
}

// carryOut installs what lasthop has on the host, then makes the changes of the
// plan, and compares the result with the wanted state.
func carryOut(k *Kernel, c routing.Claim, p *routing.Proof) error {
	foreign, err := readRouting(&k.conn)
	if err != nil {
		return err
	}
	owned := rebuildable(routing.Owned(c.Host, c.Numbers), p)
	_, err = k.Write(routing.Compare(routing.State{}, owned))
	for _, err := range joined(err) {
		p.NotRebuilt = append(p.NotRebuilt, err.Error())
	}
	differ := func(subject, want, got string) {
		p.Differences = append(p.Differences, routing.Difference{When: routing.WhileApply,
			Subject: subject, Want: want, Got: got})
	}
	_, err = k.Write(routing.Compare(owned, c.Plan.State))
	for _, err := range joined(err) {
		differ("changes", "done", err.Error())
	}
	got, err := readRouting(&k.conn)
	if err != nil {
		return err
	}
	got.host.Grouped = routing.Grouped(c.Host, c.Numbers)
	for _, op := range routing.Compare(routing.Owned(got.host, c.Numbers), c.Plan.State).Ops() {
		differ(op.String(), "in place", "still to do")
	}
	rest := routing.Without(got.host, c.Numbers)
	gone, come := lacking(deciding(foreign.host.Routes), deciding(rest.Routes), routeLine)
	goneRules, comeRules := lacking(foreign.host.Rules, rest.Rules, ruleLine)
	for _, line := range slices.Concat(mapped(gone, routeLine), mapped(goneRules, ruleLine)) {
		differ(line, "not touched", "gone")
	}
	for _, line := range slices.Concat(mapped(come, routeLine), mapped(comeRules, ruleLine)) {
		differ(line, "not touched", "new")
	}
	return nil
}

// rebuildable returns the part of a state that can be made here, and reports
// the part that cannot.
func rebuildable(s routing.State, p *routing.Proof) routing.State {
	rules := s.Rules
	s.Rules = nil
	for _, r := range rules {
		if r.Rebuildable() {
			s.Rules = append(s.Rules, r)
		} else if line := ruleLine(r); !slices.Contains(p.NotRebuilt, line) {
			p.NotRebuilt = append(p.NotRebuilt, line)
		}
	}
	return s
}

// joined returns the errors that errors.Join joined.
func joined(err error) []error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return many.Unwrap()
	}
	if err != nil {
		return []error{err}
	}
	return nil
}

// verify asks the kernel, and checks that the host is the same afterwards.
func verify(k *conn, c routing.Claim, p *routing.Proof, when routing.When) error {
	before, err := readRouting(k)
	if err != nil {
		return err
	}
	l := &loan{conn: k, host: before.host}
	err = c.Verify(p, when, func(q routing.Query) (routing.Way, error) {
		if err := l.to(q.Src); err != nil {
			return routing.Way{}, fmt.Errorf("lend the address: %w", err)
		}
		return before.ask(q)
	})
	if err := errors.Join(err, l.to(netip.Addr{})); err != nil || l.count == 0 {
		return err
	}
	now, err := readRouting(k)
	if err != nil {
		return err
	}
	gone, come := lacking(deciding(before.host.Routes), deciding(now.host.Routes), routeLine)
	if changed := slices.Concat(gone, come); len(changed) > 0 {
		return fmt.Errorf("the rebuilt host has changed while it was asked: %s", changed)
	}
	return nil
}

// loan makes sources that are not on the host present while a question is
// asked, one at a time: IPv4 refuses other sources. It adds a route of table
// local, which affects only packets to that address.
type loan struct {
	*conn
	host  routing.Host
	addr  netip.Addr // the last source
	lent  bool
	count int
}

// to makes another source present, or none with the zero Addr, and removes the
// previous one.
func (l *loan) to(a netip.Addr) error {
	if a == l.addr {
		return nil
	}
	if l.lent {
		if err := l.write(unix.RTM_DELROUTE, 0); err != nil {
			return err
		}
	}
	l.addr, l.lent = a,
		a.Is4() && !slices.ContainsFunc(l.host.Routes, func(r routing.Route) bool {
			return r.Table == routing.TableLocal && r.Type == routing.Local &&
				r.Dst.Contains(a)
		})
	if !l.lent {
		return nil
	}
	l.count++
	return l.write(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
}

func (l *loan) write(kind, flags int) error {
	r := routing.Route{RouteKey: routing.RouteKey{Table: routing.TableLocal,
		Dst: netip.PrefixFrom(l.addr, 32)},
		Type:  routing.Local,
		Scope: routing.ScopeHost, Protocol: unix.RTPROT_BOOT,
		Hops: []routing.Hop{{Link: "lo"}}}
	payload, err := encodeRoute(r, map[string]int{"lo": 1}) // in every namespace
	if err != nil {
		return err
	}
	return l.conn.write(kind, flags, payload)
}
