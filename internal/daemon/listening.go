package daemon

import (
	"slices"

	"lasthop/internal/settings"
	"lasthop/internal/survey"
	"lasthop/routing"
)

// listening is what NGINX listens on, joined with the settings: all that a
// decision depends on except the host. Ten thousand listeners cost milliseconds
// to join, so the last result is kept with its parts: Decision.Holds recognises
// it immediately.
type listening struct {
	settings *settings.Settings
	parts    []part

	nginx  survey.NGINX
	inputs routing.Inputs // without a host
}

// Which instances count as if NGINX had loaded what is on disk.
func none(*instance) bool { return false }
func all(*instance) bool  { return true }

// listening returns what NGINX listens on; asIfLoaded says which instances
// count with what is on disk.
func (f *fleet) listening(asIfLoaded func(*instance) bool) *listening {
	want := &listening{settings: f.settings}
	for _, i := range f.instances {
		want.parts = append(want.parts, i.part(asIfLoaded(i)))
	}
	same := func(l *listening) bool {
		return l.settings == want.settings &&
			slices.EqualFunc(l.parts, want.parts, part.equal)
	}
	if n := slices.IndexFunc(f.listened, same); n >= 0 {
		return f.listened[n]
	}
	for _, p := range want.parts {
		p.addTo(&want.nginx)
	}
	want.inputs = want.nginx.Inputs(routing.Host{}, *f.settings)
	f.listened = append([]*listening{want}, f.listened[:min(1, len(f.listened))]...)
	return want
}

// forget drops what was kept for a load that is over: an unused decision, and
// listeners that were known only from sockets.
func forget(f *fleet, r *reconciler) {
	if f.pending() {
		return
	}
	r.ready = routing.Decision{}
	f.listened = []*listening{f.listening(none)}
	for _, i := range f.instances {
		i.leaving = slices.Clone(i.leaving)
	}
}
