package routing

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// WayVerdict compares the way in with the way out.
type WayVerdict string

const (
	WaySymmetric  WayVerdict = "symmetric"    // one wire, one router
	WaySameLink   WayVerdict = "same-link"    // one wire; a redundancy MAC, unproved
	WayOther      WayVerdict = "other-router" // one wire, two routers
	WayAsymmetric WayVerdict = "asymmetric"   // two wires
	WayUnanswered WayVerdict = "unanswered"   // no packet left
	WayUnknown    WayVerdict = "unknown"      // no packet was seen to leave, yet
)

// WayOutcome says whether connections succeed.
type WayOutcome string

const (
	WayWorks   WayOutcome = "works"   // some are confirmed
	WayDark    WayOutcome = "dark"    // none is, and at least DarkFrom are lost
	WayRefused WayOutcome = "refused" // this host resets them
	WayNotSure WayOutcome = "unknown"
)

// DarkFrom is how many lost connections make a way dark.
const DarkFrom = 3

// Seen is what the packets of one window mean.
type Seen struct {
	Window    Window
	Sampling  Sampling
	Clients   int // of all listeners
	Listeners []SeenListener
	Silent    []Silent // listeners of which nothing is known
	Gateways  []SeenGateway
	Findings  []Finding
}

// SeenListener is a listener that packets came to. Its verdict and outcome are
// the gravest of its judged ways.
type SeenListener struct {
	Addr      netip.Addr `json:"address"`
	Port      uint16     `json:"port"` // 0 for ping
	Transport Transport  `json:"transport"`
	Verdict   WayVerdict `json:"verdict"`
	Outcome   WayOutcome `json:"outcome"`
	Ways      []SeenWay  `json:"ways"`
}

// String is "10.0.1.100:443", "10.0.1.100:53/udp" or "10.0.1.100 ping".
func (l SeenListener) String() string { return endpoint(l.Addr, l.Port, l.Transport) }

func endpoint(addr netip.Addr, port uint16, transport Transport) string {
	switch transport {
	case ICMP:
		return addr.String() + " ping"
	case UDP:
		return netip.AddrPortFrom(addr, port).String() + "/udp"
	}
	return netip.AddrPortFrom(addr, port).String()
}

// Silent is a listener that no packet came to.
type Silent struct {
	Addr      netip.Addr `json:"address"`
	Port      uint16     `json:"port"`
	LastPort  uint16     `json:"last_port,omitempty"` // of a range
	Transport Transport  `json:"transport"`
}

// SeenGateway is a router by which clients come to listeners.
type SeenGateway struct {
	Link        string     `json:"interface"`
	Family      Family     `json:"family"`
	MAC         MAC        `json:"mac,omitzero"`
	Addr        netip.Addr `json:"address,omitzero"`
	Source      string     `json:"source,omitempty"` // the source of the address
	Connections int        `json:"connections"`
	Clients     int        `json:"clients"`
	Agrees      bool       `json:"agrees"` // it is a gateway of the listeners' paths
}

// MarshalText writes the family as String does.
func (f Family) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (f *Family) UnmarshalText(text []byte) error {
	for _, known := range Families {
		if known.String() == string(text) {
			*f = known
			return nil
		}
	}
	return fmt.Errorf("%q is no address family", text)
}

// Finder returns a function that finds the gravest of what packets showed of a
// listener's ports. s may be nil: then no packets were seen.
func (s *Seen) Finder() func(Listener) (SeenListener, bool) {
	index := map[Silent]SeenListener{}
	if s != nil {
		for _, l := range s.Listeners {
			index[Silent{Addr: l.Addr, Port: l.Port, Transport: l.Transport}] = l
		}
	}
	return func(l Listener) (worst SeenListener, found bool) {
		last := int(l.Ports.Last)
		for port := int(l.Ports.First); port <= last && len(index) > 0; port++ {
			x, ok := index[Silent{Addr: l.Addr, Port: uint16(port),
				Transport: l.Transport}]
			if ok && (!found || gravity(x.Verdict, x.Outcome) >
				gravity(worst.Verdict, worst.Outcome)) {
				worst, found = x, true
			}
		}
		return worst, found
	}
}

// Judge concludes from packets what they mean for a decision. It proposes and
// contradicts: no decision depends on it. A way from a file that has a verdict
// already keeps it.
func Judge(d Decision, e Evidence) Seen {
	j := witness{decision: d, evidence: e, routers: newRouters(d.inputs.Host, e.Names)}
	s := Seen{Window: e.Window, Sampling: e.Sampling, Clients: e.Clients}
	for _, w := range e.Ways {
		w = j.way(w)
		n := len(s.Listeners)
		if n == 0 || s.Listeners[n-1].Addr != w.Addr || s.Listeners[n-1].Port != w.Port ||
			s.Listeners[n-1].Transport != w.Transport {
			s.Listeners = append(s.Listeners, SeenListener{Addr: w.Addr, Port: w.Port,
				Transport: w.Transport})
			n++
		}
		s.Listeners[n-1].Ways = append(s.Listeners[n-1].Ways, w)
	}
	for i := range s.Listeners {
		j.listener(&s.Listeners[i])
	}
	s.Silent = j.silent(s.Listeners)
	s.Gateways = j.gateways(s.Listeners)
	j.tellGateways(s)
	s.Findings = uniqueFindings(j.findings)
	return s
}

// witness holds what Judge works on.
type witness struct {
	decision Decision
	evidence Evidence
	routers  routers
	findings
}

// way names the routers of a way and judges it.
func (j *witness) way(w SeenWay) SeenWay {
	j.routers.rename(&w)
	if w.Verdict != "" {
		return w
	}
	if j.evidence.Sampling.Lossy() {
		w.Count.Unanswered, w.Count.Inferred = 0, 0
	}
	w.Verdict, w.Outcome = j.verdict(w), w.Count.outcome()
	return w
}

func (j *witness) verdict(w SeenWay) WayVerdict {
	in, out := w.In, w.Out
	switch {
	case out.Wire == "" && w.Count.Unanswered > 0:
		return WayUnanswered
	case out.Wire == "":
		return WayUnknown
	case in.Wire != out.Wire:
		return WayAsymmetric
	case in.MAC == (MAC{}) || out.MAC == (MAC{}) || in.MAC == out.MAC:
		return WaySymmetric
	case j.routers.same(in.Wire, in.MAC, out.MAC):
		return WaySymmetric
	case w.Class == OffLinkClient && (in.MAC.Redundant() || out.MAC.Redundant()):
		return WaySameLink
	}
	return WayOther
}

func (c Connections) outcome() WayOutcome {
	switch {
	case c.Confirmed > 0:
		return WayWorks
	case c.Unconfirmed+c.Unanswered >= DarkFrom && c.Inferred == 0:
		return WayDark
	case c.Refused > 0 && c.Refused >= c.Seen-c.Refused:
		return WayRefused
	}
	return WayNotSure
}

// judgedWay reports whether a way counts: a few connections of many may be left
// over from a change.
func judgedWay(w SeenWay, ofClass int) bool {
	return w.Count.Seen >= DarkFrom || w.Count.Seen*100 >= ofClass
}

// gravity orders verdicts and outcomes of a listener's ways.
func gravity(v WayVerdict, o WayOutcome) int {
	outcome := slices.Index([]WayOutcome{WayNotSure, WayWorks, WayRefused, WayDark}, o)
	verdict := slices.Index([]WayVerdict{WayUnknown, WaySymmetric, WaySameLink, WayOther,
		WayAsymmetric, WayUnanswered}, v)
	if o == WayDark {
		return 100 + verdict
	}
	return 10*verdict + outcome
}

// listener concludes from the ways of a listener.
func (j *witness) listener(l *SeenListener) {
	ofClass := map[SeenClass]int{}
	for _, w := range l.Ways {
		ofClass[w.Class] += w.Count.Seen
	}
	worst := -1
	l.Verdict, l.Outcome = WayUnknown, WayNotSure
	for _, w := range l.Ways {
		if !judgedWay(w, ofClass[w.Class]) {
			continue
		}
		if g := gravity(w.Verdict, w.Outcome); g > worst {
			worst, l.Verdict, l.Outcome = g, w.Verdict, w.Outcome
		}
		j.tellWay(l.String(), w)
	}
}

// tellWay finds what is wrong with a way.
func (j *witness) tellWay(listener string, w SeenWay) {
	who := fmt.Sprintf("%s of %s (%s)", counted(w.Count.Seen, "connection"),
		counted(w.Clients, "client"), w.Class)
	switch {
	case w.Outcome == WayDark:
		j.find(Error.Finding("dark", listener, "%s by %s, %s", who, w.In.Name(), w.lost()).
			Advise("%s", w.darkHint()))
	case w.Verdict == WayAsymmetric:
		j.find(Warning.Finding("asymmetric", listener, "requests of %s came by %s, and "+
			"replies left by %s: a stateful firewall would drop these replies", who,
			w.In.Name(), w.Out.Name()).Advise("see what lasthop would change: " +
			"lasthop plan"))
	case w.Verdict == WayOther && w.Outcome == WayWorks && w.Class == OffLinkClient:
		j.find(Info.Finding("other-router", listener, "requests of %s came by %s, and "+
			"replies left by %s: it works, as behind a load balancer that "+
			"leaves replies to the router", who, w.In.Name(), w.Out.Name()))
	case w.Verdict == WayOther:
		j.find(Info.Finding("other-router", listener, "requests of %s came by %s, and "+
			"replies left by %s", who, w.In.Name(), w.Out.Name()))
	case w.Verdict == WaySameLink:
		j.find(Info.Finding("same-link", listener, "requests of %s came by %s, and "+
			"replies left by %s, on the same link: a group of routers shares one of "+
			"the two MACs, but lasthop has not proved that both belong to that group",
			who, w.In.Name(), w.Out.Name()))
	}
}

// lost describes how the connections of a dark way fail.
func (w SeenWay) lost() string {
	switch {
	case w.Out.Wire != "":
		return fmt.Sprintf("replies left by %s, and no client acknowledged one",
			w.Out.Name())
	case w.Out.Asked.IsValid():
		return fmt.Sprintf("no answer left this host: the next hop %s on %s does not "+
			"answer", w.Out.Asked, w.Out.Link)
	}
	return "no answer left this host"
}

func (w SeenWay) darkHint() string {
	switch {
	case w.Out.Wire == "" && w.Out.Asked.IsValid():
		return "a router with strict filters may ignore ARP requests from the " +
			"listener's " +
			"address: " + Sysctl("net/ipv4/conf/"+w.Out.Link+"/arp_announce", 2) +
			"; or let replies leave by the interface of the requests: lasthop plan"
	case w.Out.Wire == "":
		return "check rp_filter, this host's firewall and NGINX's sockets: lasthop check"
	case w.Verdict == WaySymmetric:
		return "replies leave the way requests come in, so check the router and the " +
			"networks behind it"
	}
	return "see what lasthop would change: lasthop plan"
}

// Name returns a crossing in words: "eth1 10.7.1.1", "eth1 0e:2d:9a:26:7e:d0",
// "wg0".
func (c Crossing) Name() string {
	who := c.MAC.String()
	if c.Router.IsValid() {
		who = c.Router.String()
	}
	if who == "" {
		return c.Link
	}
	return c.Link + " " + who
}

// counted returns "1 client", "2 clients".
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// silent returns the listeners that no packet came to.
func (j *witness) silent(seen []SeenListener) []Silent {
	heard := map[Silent]bool{}
	for _, l := range seen {
		heard[Silent{Addr: l.Addr, Port: l.Port, Transport: l.Transport}] = true
	}
	out := []Silent{}
	for _, o := range j.decision.Plan.Outcomes {
		some := false
		for port := int(o.Ports.First); port <= int(o.Ports.Last) && !some; port++ {
			some = heard[Silent{Addr: o.Addr, Port: uint16(port),
				Transport: o.Transport}]
		}
		if some {
			continue
		}
		s := Silent{Addr: o.Addr, Port: o.Ports.First, Transport: o.Transport}
		if o.Ports.Last != o.Ports.First {
			s.LastPort = o.Ports.Last
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Silent) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port),
			cmp.Compare(a.Transport, b.Transport))
	})
	return slices.Compact(out)
}
