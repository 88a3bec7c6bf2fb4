<?php
// The walk with Guzzle and its cookie jar. Usage: guzzle.php CLIENT URL [CA-FILE]. Prints a line for each step.
require '/usr/share/php/GuzzleHttp/autoload.php';

[, , $base] = $argv;
$jar = new GuzzleHttp\Cookie\CookieJar();
$client = new GuzzleHttp\Client([
    'base_uri' => $base,
    'cookies' => $jar,
    'http_errors' => false,
    'proxy' => '',
    'timeout' => 60,
    'verify' => $argv[3] ?? true,
]);
$before = [];
foreach ([
    ['GET', '/auth/me'],
    ['GET', '/auth/userinfo'],
    ['POST', '/auth/login', ['json' => ['user_id' => 'Jürgen 🧥']]],
    ['GET', '/auth/me'],
    ['POST', '/auth/refresh'],
    ['GET', '/auth/me'],
    ['POST', '/auth/logout'],
    ['GET', '/auth/userinfo'],
] as $step) {
    $answer = $client->request($step[0], $step[1], $step[2] ?? []);
    $text = (string) $answer->getBody();
    $said = $text === '' ? [] : json_decode($text, true, 8, JSON_THROW_ON_ERROR);
    // Guzzle takes the value from a cookie that a Max-Age of 0 clears, and goes on sending its name, until a login gives it another.
    $now = array_values(array_filter(array_column($jar->toArray(), 'Value'), fn ($value) => $value !== ''));
    $kept = match (true) {
        $now === [] => 'empty',
        $now === $before => 'the same',
        count($now) === 1 => 'new',
        default => 'both',
    };
    printf("%s %s: %d %s, jar %s\n", $step[0], $step[1], $answer->getStatusCode(), $said['code'] ?? $said['user_id'] ?? 'nobody', $kept);
    $before = $now;
}
