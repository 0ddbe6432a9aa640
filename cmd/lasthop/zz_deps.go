package main

import (
	_ "github.com/goccy/go-yaml"
)
