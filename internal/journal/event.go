package journal

// Event is the event of a line, as a MESSAGE_ID: the journal finds all lines of
// one event by it, and their entry in deploy/lasthop.catalog. A logger gets it
// as the attribute EventKey.
type Event string

// EventKey is the key of an attribute that is the event of its line. Text does
// not show it.
const EventKey = "event"

// The events.
const (
	Started    Event = "2a1f199f9bf6422da06d2e847b68d745" // the daemon follows NGINX
	Ending     Event = "c8b40539e85d43719dd9325ff4d57fea" // it ends
	Loaded     Event = "6ab3ca9c9df24284bb963fe8ebef2485" // NGINX has loaded a configuration
	Changed    Event = "0211598e3e7745e1a26c7cc3d76e771f" // the daemon has written something
	Restored   Event = "c707a5e8b0624a658d07f376a2f3b327" // it has put something back
	Fight      Event = "07176d2ef71346928a04977194e573f8" // it waits before it does so again
	Wrong      Event = "591ff08a44384f6fa679638d0ffb37ec" // it cannot do its work
	Refused    Event = "82e6b45c1887478984c21cbc31262016" // it does not take new settings
	GoodAgain  Event = "e31f6abce7f7411798cea6b5e97d3efe" // a fault is over
	Found      Event = "4945a1f2473c47f2bd4e823b38722d32" // a finding of the plan
	RouterDead Event = "7c362d17074541c8a8befaa13c1c4879" // a router of the mode last-hop
	RouterBack Event = "762aca09ac3b4bb085512ccc1a2824be" // it answers again
	LinesLost  Event = "71cb98b4bd88453fa37f4dd7c2ab843f" // of the log itself
)
