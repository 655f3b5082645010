"""The way to the broker: MQTT 3.1.1, by paho-mqtt."""
import queue
import time

import paho.mqtt.client as mqtt


class Link:
    def __init__(self, host, port, pub, sub, client_id="", will=None, qos=1, clean=True):
        self.pub, self.sub, self.qos = pub, sub, qos
        self.inbox = queue.Queue()
        self.ready = False
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=client_id,
                                  clean_session=clean or not client_id, protocol=mqtt.MQTTv311)
        self.client.max_inflight_messages_set(1000)
        if will is not None:
            self.client.will_set(pub, will, qos=qos)
        self.client.on_connect = self._connected
        self.client.on_subscribe = self._subscribed
        self.client.on_message = self._message
        self.client.connect(host, port)
        self.client.loop_start()
        end = time.monotonic() + 10
        while not self.ready:
            if time.monotonic() > end:
                raise SystemExit("no connection to the broker")
            time.sleep(0.005)

    def _connected(self, client, *_):
        client.subscribe(self.sub, qos=self.qos)

    def _subscribed(self, *_):
        self.ready = True

    def _message(self, client, userdata, m):
        self.inbox.put((m.topic, m.payload, m.retain))

    def send(self, payload, qos=None, retain=False):
        return self.client.publish(self.pub, payload, self.qos if qos is None else qos, retain)

    def get(self, wait):
        """(topic, payload, kept by the broker), or None after `wait` seconds."""
        try:
            return self.inbox.get(timeout=max(wait, 0.001))
        except queue.Empty:
            return None

    def close(self, wait=5):
        """Let the broker acknowledge what was sent, then DISCONNECT."""
        end = time.monotonic() + wait
        while self.client.want_write() or self.client._out_messages:
            if time.monotonic() > end:
                break
            time.sleep(0.005)
        self.client.disconnect()
        self.client.loop_stop()
