module lasthop

go 1.26.0

require (
	github.com/chromedp/cdproto v0.159.0 // tests: the protocol that chromedp speaks
	github.com/chromedp/chromedp v0.23.0 // tests: a real browser reads the HTML report
	github.com/cilium/ebpf v0.22.0 // loads the programs of last-hop, reads and writes their maps
	github.com/coreos/go-systemd/v22 v22.7.0 // sd_notify, the watchdog, $JOURNAL_STREAM
	github.com/fsnotify/fsnotify v1.9.0 // changes of configuration and pid files
	github.com/go-json-experiment/json v0.0.0-20260213210345-44df1a37e875 // captures: JSON with the place of each error
	github.com/goccy/go-yaml v1.19.2 // lasthop.yaml, strictly, with line numbers in errors
	github.com/google/go-cmp v0.7.0 // tests: readable differences
	github.com/nginxinc/nginx-go-crossplane v0.4.89 // parses nginx.conf
	github.com/prometheus/client_golang v1.23.2 // metrics
	github.com/rogpeppe/go-internal v1.14.1 // tests: testscript and txtar
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.2 // tests: the JSON documents against docs/schema
	github.com/spf13/cobra v1.10.2 // commands, flags, help
	github.com/spf13/pflag v1.0.10 // cobra's flags: help lists those that a command takes
	github.com/vishvananda/netlink v1.3.1 // rtnetlink
	github.com/vishvananda/netns v0.0.5 // --netns
	go4.org/netipx v0.0.0-20260823151212-3075585bcbeb // sets of addresses as maximal prefixes
	golang.org/x/net v0.62.0 // bpf alone: assembles the filter of the observer
	golang.org/x/sync v0.24.0 // errgroup: the daemon's tasks
	golang.org/x/sys v0.49.0 // flock, openat2
)

require (
	github.com/beorn7/perks v1.0.1 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/jstemmer/go-junit-report v1.0.0 // indirect
	github.com/munnerz/goautoneg v0.0.0-20191010083416-a7dc8b61c822 // indirect
	github.com/prometheus/client_model v0.6.2 // indirect
	github.com/prometheus/common v0.66.1 // indirect
	github.com/prometheus/procfs v0.16.1 // indirect
	go.yaml.in/yaml/v2 v2.4.2 // indirect
	golang.org/x/mod v0.41.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	golang.org/x/tools v0.51.0 // indirect
	google.golang.org/protobuf v1.36.8 // indirect
)
