// Package docs has the pages of documentation that lasthop itself prints.
package docs

import _ "embed"

// Findings is docs/findings.md: a section for each code, headed "### CODE".
//
//go:embed findings.md
var Findings string
