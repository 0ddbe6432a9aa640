package routing

import (
	"net/netip"
	"slices"
)

// endedRules are rules that end each lookup that they match. A rule behind them
// that matches only the same packets is dead. It must not become effective
// because the block repeats it.
type endedRules struct {
	rules    map[[2]netip.Prefix][]Rule // by source and destination
	from, to [130]bool                  // lengths that occur, plus one
}

func (e *endedRules) add(rules []Rule) {
	if e.rules == nil {
		e.rules = map[[2]netip.Prefix][]Rule{}
	}
	for _, r := range rules {
		k := [2]netip.Prefix{selected(r.From), selected(r.To)}
		e.rules[k] = append(e.rules[k], r)
		e.from[k[0].Bits()+1], e.to[k[1].Bits()+1] = true, true
	}
}

// selected is a selector; the zero Prefix matches everything.
func selected(p netip.Prefix) netip.Prefix {
	if p.Bits() <= 0 {
		return netip.Prefix{}
	}
	return p.Masked()
}

// over reports whether a rule is dead: an earlier rule takes at least the
// packets that it matches.
func (e *endedRules) over(r Rule) bool {
	for _, from := range around(r.From, &e.from) {
		for _, to := range around(r.To, &e.to) {
			for _, x := range e.rules[[2]netip.Prefix{from, to}] {
				if (x.OIF == "" || x.OIF == r.OIF) &&
					(x.Opaque == "" || x.Opaque == r.Opaque) &&
					(x.Mask == 0 || x.Mask&r.Mask == x.Mask &&
						x.Mark == r.Mark&x.Mask) {
					return true
				}
			}
		}
	}
	return false
}

// around returns the prefixes of the given lengths that hold a selector, and
// the zero Prefix.
func around(p netip.Prefix, lengths *[130]bool) []netip.Prefix {
	out := []netip.Prefix{{}}
	for bits := p.Bits(); bits > 0; bits-- {
		if lengths[bits+1] {
			q, _ := p.Addr().Prefix(bits)
			out = append(out, q)
		}
	}
	return out
}

// narrower reports whether a rule among them is for a part of a prefix.
func (e *endedRules) narrower(p netip.Prefix) bool {
	return slices.Contains(e.from[max(p.Bits(), 0)+2:], true)
}

// reached returns a rule for those of the sorted listeners whose replies get as
// far as it. That is the rule itself if all replies do.
func (e *endedRules) reached(r Rule, listeners []netip.Addr) []Rule {
	switch {
	case e.over(r) || r.From.IsValid() && !holds(r.From, listeners):
		return nil
	case !e.narrower(r.From):
		return []Rule{r}
	}
	return reached([]Rule{r}, listeners, func(a netip.Addr) bool {
		one := r
		one.From = netip.PrefixFrom(a, a.BitLen())
		return e.over(one)
	})
}

// reached returns the rules for the listeners that are not left out: unchanged,
// or one for each listener.
func reached(rules []Rule, listeners []netip.Addr, out func(netip.Addr) bool) []Rule {
	var live []Rule
	for _, r := range rules {
		all := within(r.From, listeners)
		some := without(all, out)
		if len(some) == len(all) {
			live = append(live, r)
			continue
		}
		for _, a := range some {
			r.From = netip.PrefixFrom(a, a.BitLen())
			live = append(live, r)
		}
	}
	return live
}
