/* SPDX-License-Identifier: BSD-3-Clause
 * Ask a Millrace appliance for one answer: millrace-example HOST:PORT API_KEY CA_FILE MODEL
 */
#include <stdio.h>
#include <stdlib.h>

#include "client/millrace.h"

int main(int argc, char **argv)
{
	struct mr_options options = {0};
	struct mr_client *client;
	struct mr_error error;
	enum mr_status status;

	if (argc != 5)
		return fprintf(stderr, "usage: %s HOST:PORT API_KEY CA_FILE MODEL\n", argv[0]), 2;
	options.https = argv[1];
	options.api_key = argv[2];
	options.ca_file = argv[3];
	if (mr_client_open(&client, &options, &error))
		return fprintf(stderr, "cannot enrol: %s\n", error.text), 1;
	const struct mr_model *model = mr_model_find(client, argv[4]);
	float *row = model ? calloc(1, model->row_in_bytes) : NULL;
	float *answer = model ? calloc(1, model->row_out_bytes) : NULL;
	int rc = mr_infer(client, argv[4], row, 1, answer, &status, NULL);

	for (size_t i = 0; !rc && i < model->row_out_bytes / sizeof(float); i++)
		printf("%g\n", (double)answer[i]);
	if (rc)
		fprintf(stderr, "%s\n", mr_client_error(client)->text);
	free(row);
	free(answer);
	mr_client_close(client);
	return rc ? 1 : 0;
}
