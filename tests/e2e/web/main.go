// Web is what the cluster tests run in pods: it serves a greeting, and it asks for one by name.
//
//	web serve        answer on :8080, one log line per question
//	web fetch URL    print what URL answers
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == "serve":
		err = serve()
	case len(os.Args) == 3 && os.Args[1] == "fetch":
		err = fetch(os.Args[2])
	default:
		err = fmt.Errorf("usage: web serve | web fetch URL")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve() error {
	http.HandleFunc("/", func(answer http.ResponseWriter, question *http.Request) {
		fmt.Println("asked for", question.URL.Path)
		fmt.Fprintln(answer, "hello from", os.Getenv("HOSTNAME"))
	})
	return http.ListenAndServe(":8080", nil)
}

func fetch(url string) error {
	client := http.Client{Timeout: 10 * time.Second}
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, err = io.Copy(os.Stdout, answer.Body)
	return err
}
