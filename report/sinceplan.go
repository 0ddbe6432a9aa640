package report

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"

	"lasthop/routing"
)

// changeKind is the kind of a Changed that is a change which apply would make.
const changeKind = "change"

// Compare fills Since from the document of an earlier `plan -o json`; file is
// where it was read. The error names a document that is none.
func (p *Plan) Compare(file string, data []byte) error {
	var old, now planDoc
	if err := decodePlan(file, data, &old); err != nil {
		return err
	}
	p.Since = since(file, data, old.headDoc)
	var b bytes.Buffer
	err := p.JSON(&b)
	if err == nil { // as it is read: JSON keeps no bytes that are not UTF-8
		err = json.Unmarshal(b.Bytes(), &now)
	}
	if err != nil {
		return err
	}
	p.Since.same = p.Since.Digest == p.Digest
	p.Since.Changes = compare(old.states(), now.states())
	return nil
}

// Differs reports whether something differs from the earlier plan; not if there
// is none.
func (s *Since) Differs() bool { return s != nil && (!s.same || len(s.Changes) > 0) }

// states are all that is compared of a plan. Of a finding the message is not:
// it may count sessions.
func (p planDoc) states() (out []state) {
	for _, l := range p.Listeners {
		o := routing.Listener{Transport: routing.Transport(l.Transport)}
		o.Ports.First, o.Ports.Last = l.Port, max(l.Port, l.LastPort)
		out = append(out, state{place: place{"listener", l.Address, o.PortName()},
			status: l.Status, reason: l.Reason, way: l.After.String(),
			before: l.Before.String()})
	}
	for _, x := range p.Paths {
		way := strings.Join(x.Gateways, ", ")
		if x.Table != 0 {
			slices.Sort(x.Prefixes)
			way += " for " + strings.Join(x.Prefixes, ", ")
		}
		if x.LastHop {
			way += ", last-hop"
		}
		out = append(out, state{place: place{"path", x.Interface, x.Family},
			reason: x.Source, way: way})
	}
	for _, c := range p.Changes {
		out = append(out, state{place: place{changeKind, c.Text, ""}})
	}
	for _, f := range p.Findings {
		out = append(out, state{place: place{"finding", string(f.Code), f.Subject},
			by: origin(f), status: string(f.Severity), note: f.Message})
	}
	return out
}

// String writes a way as routing.Way does; "" for none.
func (w *wayDoc) String() string {
	switch {
	case w == nil:
		return ""
	case w.Type != "":
		return w.Type
	}
	via, _ := netip.ParseAddr(w.Gateway)
	return routing.Way{Type: routing.Unicast, Link: w.Interface, Via: via, More: w.More,
		LastHop: w.LastHop}.String()
}
