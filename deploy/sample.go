// Package deploy has what is installed with lasthop, of which the program
// itself prints the sample of its settings.
package deploy

import _ "embed"

// Settings is lasthop.yaml as it is installed: each key with its comment.
//
//go:embed lasthop.yaml
var Settings string
