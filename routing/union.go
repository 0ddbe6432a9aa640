package routing

import "slices"

// Empty reports whether the state holds nothing.
func (s State) Empty() bool { return len(s.Routes)+len(s.Rules)+len(s.Groups) == 0 }

// Union returns the state with what it lacks of more. Of routes with one key and
// of groups of one link, those of s stay.
func (s State) Union(more State) State {
	keys := map[RouteKey]bool{}
	for _, r := range s.Routes {
		keys[r.RouteKey] = true
	}
	out := State{slices.Clone(s.Routes), slices.Clone(s.Rules), slices.Clone(s.Groups)}
	for _, r := range more.Routes {
		if !keys[r.RouteKey] {
			out.Routes = append(out.Routes, r)
		}
	}
	for _, r := range more.Rules {
		if !slices.Contains(s.Rules, r) {
			out.Rules = append(out.Rules, r)
		}
	}
	for _, g := range more.Groups {
		if !slices.ContainsFunc(s.Groups, func(x LinkGroup) bool { return x.Link == g.Link }) {
			out.Groups = append(out.Groups, g)
		}
	}
	out.Sort()
	return out
}

// Serving returns what of the state serves the paths of a link and family: the
// tables whose default leaves by the link, and the rules whose prefixes lead to
// them, those in front included. It holds no groups.
func (s State) Serving(link string, f Family) State {
	var out State
	tables, from := map[uint32]bool{}, map[string]bool{}
	for _, r := range s.Routes {
		if r.Family() == f && r.IsDefault() && len(r.Hops) > 0 && r.Hops[0].Link == link {
			tables[r.Table] = true
		}
	}
	for _, r := range s.Routes {
		if r.Family() == f && tables[r.Table] {
			out.Routes = append(out.Routes, r)
		}
	}
	for _, r := range s.Rules {
		if r.Family == f && tables[r.Table] {
			from[r.From.String()] = true
		}
	}
	for _, r := range s.Rules {
		if r.Family == f && from[r.From.String()] {
			out.Rules = append(out.Rules, r)
		}
	}
	return out
}
