module lasthop

go 1.26.0

require (
	github.com/google/go-cmp v0.7.0 // tests: readable differences
	github.com/nginxinc/nginx-go-crossplane v0.4.89 // parses nginx.conf
	github.com/rogpeppe/go-internal v1.14.1 // tests: testscript and txtar
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.2 // tests: the JSON documents against docs/schema
	github.com/spf13/cobra v1.10.1 // commands, flags, help
	github.com/vishvananda/netlink v1.3.1 // rtnetlink
	github.com/vishvananda/netns v0.0.5 // --netns
	go4.org/netipx v0.0.0-20260823151212-3075585bcbeb // sets of addresses as maximal prefixes
	golang.org/x/sys v0.49.0 // flock, openat2
)

require (
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/jstemmer/go-junit-report v1.0.0 // indirect
	github.com/spf13/pflag v1.0.9 // indirect
	golang.org/x/mod v0.24.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/text v0.14.0 // indirect
	golang.org/x/tools v0.32.0 // indirect
)
