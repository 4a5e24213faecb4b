// Publishes a lead event to Leadhook with amqp091-go.
//
//	go mod init example && go get github.com/rabbitmq/amqp091-go
//	AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2f go run publish.go lead.delivered.json
//
// LEAD_EXCHANGE names another exchange than lead.events. Exit code 1: not accepted, publish it again later.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func main() {
	if err := publish(os.Getenv("AMQP_URL"), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("accepted: the broker has confirmed it")
}

func publish(url, file string) error {
	body, err := os.ReadFile(file) // sent byte for byte: receivers get these bytes, and the signature is over them
	if err != nil {
		return err
	}
	var event struct{ Event, SubmissionId string }
	if err := json.Unmarshal(body, &event); err != nil {
		return err
	}
	exchange := os.Getenv("LEAD_EXCHANGE")
	if exchange == "" {
		exchange = "lead.events"
	}

	connection, err := amqp.Dial(url)
	if err != nil {
		return err
	}
	defer connection.Close()
	channel, err := connection.Channel()
	if err != nil {
		return err
	}
	if err := channel.Confirm(false); err != nil {
		return err
	}
	// The broker returns a message that no queue takes, and then confirms it: a confirm alone is not enough.
	returned := channel.NotifyReturn(make(chan amqp.Return, 1))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	confirm, err := channel.PublishWithDeferredConfirmWithContext(ctx, exchange, event.Event, true, false, // mandatory
		amqp.Publishing{
			DeliveryMode: amqp.Persistent,
			ContentType:  "application/json",
			// The same when you publish this event again, so that receivers recognize the duplicate.
			MessageId: event.SubmissionId + "/" + event.Event,
			// Headers: amqp.Table{"organization-id": "acme"} for a campaign that the webhook store does not list
			Body: body,
		})
	if err != nil {
		return err
	}
	if acked, err := confirm.WaitContext(ctx); err != nil || !acked || len(returned) > 0 {
		return errors.New("not accepted, publish it again later")
	}
	return nil
}
